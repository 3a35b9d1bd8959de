/* memfd.h - files of shared memory without a name. */
#ifndef FZ_MEMFD_H
#define FZ_MEMFD_H

#include <stddef.h>
#include <sys/types.h>

struct fz_err;

/*
 * A new memfd, close-on-exec and above the standard descriptors; `flags` are
 * those of memfd_create(). -1 and `err` if the kernel or a limit does not allow
 * it.
 */
int fz_memfd_new(const char *name, unsigned flags, struct fz_err *err);

/*
 * Reserve memory for whole pages of a mapping, so that a write there cannot
 * fault. Kernels that cannot do this by address use `fd`, the mapped file, at
 * `offset`. `fd` is -1 if this kernel can. 0, or -1 and errno.
 */
int fz_memfd_reserve(void *at, size_t len, int fd, off_t offset);

#endif
