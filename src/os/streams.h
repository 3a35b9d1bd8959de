/*
 * streams.h - the stdio streams of a process that forks, on both sides.
 *
 * A stream that is open at the fork belongs to the parent: its buffered bytes
 * are written once, by the parent, and a pipe ends when the parent closes it.
 */
#ifndef FZ_STREAMS_H
#define FZ_STREAMS_H

/*
 * In the parent, before the fork: flush all streams, or stdout and stderr
 * alone while there are other threads, because another thread may hold the
 * lock of a stream for as long as it reads from it.
 */
void fz_streams_flush(void);

/*
 * In the child: forget what is still buffered, close pipes and sockets behind
 * streams but the standard ones, which other code redirects. The number of a
 * closed descriptor stays taken, so that a use of the stream fails with EBADF
 * and reaches no file that was opened later.
 */
void fz_streams_in_child(void);

#endif
