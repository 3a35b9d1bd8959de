/* memfd.h - files of shared memory without a name. */
#ifndef FZ_MEMFD_H
#define FZ_MEMFD_H

#include <stddef.h>
#include <sys/types.h>

struct fz_err;

/*
 * Create a memfd. It is close-on-exec, and its number is above the standard
 * descriptors. `flags` are those of memfd_create(). -1 and `err` if the kernel
 * or a limit does not allow it.
 */
int fz_memfd_new(const char *name, unsigned flags, struct fz_err *err);

/*
 * Reserve memory for whole pages of a mapping, so that a write there cannot
 * fault. Old kernels need the mapped file `fd` and the `offset` there; `fd` may
 * be -1 on other kernels. 0, or -1 and errno.
 */
int fz_memfd_reserve(void *at, size_t len, int fd, off_t offset);

#endif
