package main

import (
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/serve"
)

// keysVariable is the variable of the environment that may hold API keys, with commas between them. There is no flag that takes a key:
// every user of a machine sees the flags of its processes.
const keysVariable = "RAG_RETRIEVAL_API_KEYS"

// apiKeys are the keys of the environment and of --api-key-file, and nil if none is asked for.
func apiKeys(c *cli.Context) (*serve.Keys, error) {
	keys, err := readKeys(c)
	if err != nil || keys == nil {
		return nil, err
	}
	return serve.NewKeys(keys...), nil
}

func readKeys(c *cli.Context) ([]string, error) {
	var keys []string
	if value, set := os.LookupEnv(keysVariable); set {
		more, err := splitKeys(value, ",", keysVariable+": key ")
		if err != nil {
			return nil, err
		}
		if len(more) == 0 { // a secret that is not there must not open the server to all
			return nil, usagef("%s is set and has no key: unset it to serve without keys", keysVariable)
		}
		keys = append(keys, more...)
	}
	if path := c.String("api-key-file"); c.IsSet("api-key-file") {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, usagef("--api-key-file: %v", err)
		}
		more, err := splitKeys(string(b), "\n", path+":")
		if err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, usagef("--api-key-file: %s has no key", path)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

// splitKeys splits a list of keys. A key with white space in it could not be sent: it is told by its number, and not shown.
func splitKeys(list, separator, place string) (keys []string, err error) {
	for i, key := range strings.Split(list, separator) {
		key = strings.TrimSpace(key)
		if key == "" {
			continue
		}
		for _, r := range key {
			if r <= ' ' || r > '~' {
				return nil, usagef("%s%d: the API key has a character that a header does not, want printable ASCII without spaces", place, i+1)
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}
