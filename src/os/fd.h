/* fd.h - descriptors: always close-on-exec, writes without SIGPIPE. */
#ifndef FZ_FD_H
#define FZ_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_err;

/*
 * A close-on-exec pipe: fd[0] reads, fd[1] writes; neither number is 0, 1 or 2.
 * 0, or -1 and `err`.
 */
int fz_fd_pipe(int fd[2], struct fz_err *err);

/* A pair of connected stream sockets, by the rules of fz_fd_pipe(). */
int fz_fd_socket_pair(int fd[2], struct fz_err *err);

/* Let reads and writes fail with EAGAIN and not wait. 0, or -1 and `err`. */
int fz_fd_nonblock(int fd, struct fz_err *err);

/*
 * Move *fd away from 0, 1 and 2, because a child opens these numbers. A new
 * descriptor gets one of them in a host that has closed its standard streams.
 * 0, or -1 and `err`.
 */
int fz_fd_clear_standard(int *fd, struct fz_err *err);

/*
 * Close all descriptors from 3 on except the `n` in `keep`, which this function
 * sorts; an entry of -1 is ignored. 0, or -1 if the kernel has no call for it.
 */
int fz_fd_close_others(int *keep, size_t n);

/*
 * Mark `fd` for the next fz_fd_close_private(); fz_fd_close() and
 * fz_fd_clear_private() remove the mark. A parent marks its pipe ends to each
 * child, so that a later child closes all of them in few calls. `helped` is
 * only for a child without threads: if there are many marked descriptors, a
 * helper closes them some microseconds later, in parallel. 0, or -1 and `err`.
 */
int fz_fd_make_private(int fd, struct fz_err *err);
void fz_fd_clear_private(int fd);
bool fz_fd_is_private(int fd);
void fz_fd_close_private(bool helped);

/*
 * In a child that keeps `*fd`, before fz_fd_close_private(): if many private
 * descriptors are open, `*fd` replaces the lowest of them. Then all descriptors
 * at the end of the table are private and can be closed at once.
 */
void fz_fd_lower(int *fd);

/*
 * fz_fd_raise_limit(): raise the soft limit of descriptors to the hard one.
 * fz_fd_restore_limit(): restore the old soft limit before another program is
 * executed. fz_fd_raise_limit_again(): raise the limit again if that program
 * could not be executed. The last two do nothing if the limit was not raised.
 */
void fz_fd_raise_limit(void);
void fz_fd_restore_limit(void);
void fz_fd_raise_limit_again(void);

/* Close *fd unless it is -1, make it -1, keep errno. */
void fz_fd_close(int *fd);

/* read(2) that retries on EINTR and reads at most 1 MiB at once. */
ssize_t fz_fd_read(int fd, void *bytes, size_t n);

/* Read a small file, cut to `len` - 1 bytes. False: empty or unreadable. */
bool fz_fd_read_file(const char *path, char *text, size_t len);

/* Read a file; free() the text. NULL if the file is empty or unreadable. */
char *fz_fd_read_text(const char *path);

/*
 * The number after `field` at the start of a line of a small file, or of the
 * file itself if `field` is "". UINT64_MAX if there is none.
 */
uint64_t fz_fd_read_number(const char *path, const char *field, int base);

/*
 * write(2) that retries on EINTR and writes at most 1 MiB at once. A broken
 * pipe gives EPIPE and never a signal: a flag suppresses SIGPIPE, or this
 * thread blocks and consumes it.
 */
ssize_t fz_fd_write(int fd, const void *bytes, size_t n);

/*
 * Write all bytes to a blocking descriptor. 0, or -1 with errno. Unlike
 * fz_fd_write(), a broken pipe may end the process by SIGPIPE.
 */
int fz_fd_write_all(int fd, const void *bytes, size_t n);

/* Whether `errno` means that the other end of a pipe or socket is closed. */
bool fz_fd_peer_closed(void);

#endif
