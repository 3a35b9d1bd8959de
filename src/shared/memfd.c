/* memfd_create, fallocate and madvise are extensions of Linux. */
#define _GNU_SOURCE
#include "shared/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/err.h"
#include "os/fd.h"
#include "os/memory.h"

#define RESERVE_STEP ((size_t)8 << 20)
#define CHECK_MEMORY_FROM ((size_t)16 << 20)

int
fz_memfd_new(const char *name, unsigned flags, struct fz_err *err)
{
	struct rlimit limit;
	int fd;

	/*
	 * Check the limit of file sizes first: if a file grew beyond it, the
	 * kernel would send a signal.
	 */
	if (getrlimit(RLIMIT_FSIZE, &limit) == -1 ||
	    limit.rlim_cur != RLIM_INFINITY)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no shared memory, because there is a file size limit "
		    "(ulimit -f)");
	fd = memfd_create(name, MFD_CLOEXEC | flags);
	if (fd == -1)
		return fz_err_sys(err, errno, "cannot make shared memory");
	if (fz_fd_clear_standard(&fd, err) != 0)
		fz_fd_close(&fd);
	return fd;
}

/* Before Linux 5.14 memory can be reserved only through the file. */
static int
reserve_step(unsigned char *at, size_t len, int fd, off_t offset)
{
	if (madvise(at, len, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno == EINVAL && fd != -1)
		return fallocate(fd, 0, offset, (off_t)len);
	if (errno == EFAULT) /* the kernel found no memory for a page */
		errno = ENOMEM;
	return -1;
}

int
fz_memfd_reserve(void *at, size_t len, int fd, off_t offset)
{
	size_t done = 0;

	/*
	 * check first: the kernel would not refuse the memory, but kill a
	 * process
	 */
	if (len >= CHECK_MEMORY_FROM && fz_memory_available() <= len) {
		errno = ENOMEM;
		return -1;
	}
	while (done < len) {
		size_t n =
		    len - done < RESERVE_STEP ? len - done : RESERVE_STEP;

		/*
		 * in small steps, because after a signal a step must begin anew
		 */
		if (reserve_step((unsigned char *)at + done, n, fd,
			offset + (off_t)done) == 0)
			done += n;
		else if (errno != EINTR)
			return -1;
	}
	return 0;
}
