#include "reads.h"

#include <errno.h>
#include <sys/types.h>

struct reads reads;

ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	if (reads.error != 0) {
		errno = reads.error;
		if (reads.error == EINTR)
			reads.error = 0;
		return -1;
	}
	if (reads.most != 0 && n > reads.most)
		n = reads.most;
	return __real_read(fd, bytes, n);
}
