// Package shrunk keeps the process alive when another program makes a mapped file shorter, as cp does when it writes over it. The
// pages beyond the new end are gone: who reads them gets SIGBUS, which ends a process. Where a watched file has changed, its mapping
// becomes zeros from such a page on, for as long as it exists, even if the file gets its former bytes back. Whoever maps a file must ask
// afterwards whether pages were lost, and then throw away what was computed from it.
//
// Everything else that raises SIGBUS, such as a broken disk under a file that has not changed, ends the process as before: zeros there
// would be wrong without anybody's knowing.
package shrunk
