package dist

// SetMost sets the most elements of one call of MPI.
func SetMost(c Comm, n int) { c.(*mpi).most = n }
