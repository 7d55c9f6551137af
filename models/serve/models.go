package serve

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"rag-retrieval-go/models/modelcard"
)

// Models are the models that are served at the moment.
func (s *Server) Models() []*Model {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.models
}

// Replace serves a model in place of the one of the same name, and closes that one when its last request has been answered. Requests
// that come in the meantime get the new model: none fails. An error says that the new model is not served, and stays the caller's; what goes
// wrong with closing the old one is logged.
func (s *Server) Replace(m *Model) error {
	s.mu.Lock()
	i := slices.IndexFunc(s.models, func(x *Model) bool { return x.Name == m.Name })
	if i < 0 {
		s.mu.Unlock()
		return fmt.Errorf("no model %q is served", m.Name)
	}
	s.observe(m)
	old := s.models[i]
	s.models = slices.Clone(s.models)
	s.models[i] = m
	s.mu.Unlock()
	old.users.Wait()
	if err := old.Close(); err != nil {
		s.o.Log.Error("the old model was not closed", "model", old.Name, "error", err.Error())
	}
	return nil
}

// Close closes the models when their requests have been answered. No request may come after it.
func (s *Server) Close() error {
	var errs []error
	for _, m := range s.Models() {
		m.users.Wait()
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// acquire finds a model and counts a user of it.
func (s *Server) acquire(name string, kinds ...modelcard.Kind) (*Model, error) {
	s.mu.RLock() // Replace waits for the users of a model after it was replaced: none is added then
	defer s.mu.RUnlock()
	m, err := find(s.models, name, kinds...)
	if err == nil {
		m.users.Add(1)
	}
	return m, err
}

// find finds a model by its name, or where the name is empty the first one of the first of the kinds that is served.
func find(models []*Model, name string, kinds ...modelcard.Kind) (*Model, error) {
	for _, k := range kinds {
		for _, m := range models {
			if m.Kind() == k && (name == "" || m.Name == name) {
				return m, nil
			}
		}
	}
	if name == "" {
		return nil, &Error{Status: http.StatusNotFound, Kind: notFound, Code: unknownModel, Message: fmt.Sprintf("no model of kind %s is served", list(kinds))}
	}
	var names []string
	for _, m := range models {
		if m.Name == name {
			return nil, about("model", errorf(http.StatusBadRequest, validation, "the model %q is of kind %s, want %s", name, m.Kind(), list(kinds)))
		}
		names = append(names, m.Name)
	}
	err := about("model", errorf(http.StatusNotFound, notFound, "the model %q is not served, want one of %s", name, strings.Join(names, ", ")))
	err.(*Error).Code = unknownModel
	return nil, err
}

func list(kinds []modelcard.Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, " or ")
}
