package main

import (
	"cmp"
	"crypto/tls"
	"sync/atomic"

	"github.com/urfave/cli/v2"
)

// certificate is the certificate of --tls-cert. A connection gets the one that was loaded last.
type certificate struct {
	certFile, keyFile string
	loaded            atomic.Pointer[tls.Certificate]
}

// tlsCertificate loads the certificate that the flags name, and is nil if they name none.
func tlsCertificate(c *cli.Context) (*certificate, error) {
	if !c.IsSet("tls-cert") {
		if c.IsSet("tls-key") {
			return nil, usagef("--tls-key is set, and --tls-cert is not")
		}
		return nil, nil
	}
	x := &certificate{certFile: c.String("tls-cert"), keyFile: cmp.Or(c.String("tls-key"), c.String("tls-cert"))}
	if err := x.load(); err != nil {
		return nil, usagef("--tls-cert: %v", err)
	}
	return x, nil
}

// load reads the files. On an error the certificate stays what it was.
func (x *certificate) load() error {
	cert, err := tls.LoadX509KeyPair(x.certFile, x.keyFile)
	if err == nil {
		x.loaded.Store(&cert)
	}
	return err
}

func (x *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return x.loaded.Load(), nil },
	}
}
