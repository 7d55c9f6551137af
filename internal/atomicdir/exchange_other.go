//go:build !linux && !darwin

package atomicdir

import "errors"

func exchange(_, _ string) error { return errors.ErrUnsupported }
