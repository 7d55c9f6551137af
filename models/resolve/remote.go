package resolve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/runtime"
)

// RemoteBase returns the hub id of the base model that would be fetched to open the folder of an adapter. It is empty for a base in a
// folder or in the cache, and for a model without an adapter.
func RemoteBase(dir string) (string, error) {
	if is, err := hf.IsAdapter(dir); err != nil || !is {
		return "", err
	}
	if whole, err := isWhole(dir); err != nil || whole {
		return "", err
	}
	c, err := hf.ReadAdapterConfig(dir)
	if err != nil || !hub.IsID(c.Base) {
		return "", err
	}
	for _, path := range []string{c.Base, filepath.Join(dir, c.Base)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	cache, err := runtime.InHome("hub")
	if err != nil || hub.New(cache).HasModel(c.Base, c.Revision) {
		return "", err
	}
	return c.Base, nil
}
