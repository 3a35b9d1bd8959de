/* fd.h - descriptors: close-on-exec from birth, writes without SIGPIPE. */
#ifndef FZ_FD_H
#define FZ_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct fz_err;

/*
 * A close-on-exec pipe: fd[0] reads, fd[1] writes; neither is a standard
 * number. 0, or -1 and `err`.
 */
int fz_fd_pipe(int fd[2], struct fz_err *err);

/* Make reads and writes return EAGAIN instead of waiting. 0, or -1 and `err`.
 */
int fz_fd_nonblock(int fd, struct fz_err *err);

/*
 * Move *fd away from 0, 1 and 2, which a new descriptor gets in a host that has
 * closed them: a child opens those. 0, or -1 and `err`.
 */
int fz_fd_clear_standard(int *fd, struct fz_err *err);

/*
 * Close all descriptors from 3 on but the `n` of `keep`, which is sorted; -1
 * there means none. 0, or -1 where the kernel has no call for it.
 */
int fz_fd_close_others(int *keep, size_t n);

/*
 * Have the next fz_fd_close_private() close `fd`, unless fz_fd_close() has done
 * so before. A parent marks its ends of pipes to each child; with many of them,
 * a later child closes all at once. 0, or -1 and `err`. For one thread.
 */
int fz_fd_make_private(int fd, struct fz_err *err);
bool fz_fd_is_private(int fd);
void fz_fd_close_private(void);

/*
 * Raise the soft limit of descriptors to the hard one; go back to the soft
 * limit that there was, for another program. Does nothing if it was not raised.
 */
void fz_fd_raise_limit(void);
void fz_fd_restore_limit(void);

/* Close *fd unless it is -1, make it -1, keep errno. */
void fz_fd_close(int *fd);

/* read(2), EINTR retried; of a long piece perhaps only the first 1 MiB. */
ssize_t fz_fd_read(int fd, void *bytes, size_t n);

/*
 * The text of a small file, cut to `len` - 1 bytes. False: it cannot be read,
 * or is empty.
 */
bool fz_fd_read_file(const char *path, char *text, size_t len);

/*
 * write(2), EINTR retried, as much as of a read. A broken pipe is EPIPE and
 * never a signal: the kernel is told so, or SIGPIPE is blocked in this thread
 * for the call and one that it raised is consumed.
 */
ssize_t fz_fd_write(int fd, const void *bytes, size_t n);

/*
 * Write all of it to a blocking descriptor. 0, or -1 with errno. For workers:
 * a broken pipe may end the process, since its parent is gone.
 */
int fz_fd_write_all(int fd, const void *bytes, size_t n);

#endif
