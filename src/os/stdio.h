/*
 * stdio.h - the stdio streams of a process that forks, and of its child.
 *
 * A stream that is open at the fork belongs to the parent: the parent alone
 * writes its buffered bytes, and a pipe ends when the parent closes it.
 */
#ifndef FZ_STDIO_H
#define FZ_STDIO_H

/*
 * In the parent, before the fork: flush all streams. If there are other
 * threads, flush only stdout and stderr, because a thread may hold the lock of
 * a stream for as long as it reads from it.
 */
void fz_stdio_flush(void);

/*
 * In the child: drop buffered bytes, and close the pipes and sockets of all
 * streams except the standard ones, which other code redirects. The number of a
 * closed descriptor stays taken, so that a use of the stream fails with EBADF
 * and cannot reach a file that was opened later.
 */
void fz_stdio_in_child(void);

#endif
