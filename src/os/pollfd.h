/*
 * pollfd.h - one descriptor that is readable if a loop has something to do.
 *
 * A host polls it in a loop of its own. The descriptor is an epoll set that
 * contains the loop's epoll set and a timer, so its number stays the same if
 * the loop opens a new set.
 */
#ifndef FZ_POLLFD_H
#define FZ_POLLFD_H

#include <stdint.h>

struct fz_err;

struct fz_pollfd {
	/* the epoll set; -1: not open, and the functions below do nothing */
	int fd;
	int timer;
};

#define FZ_POLLFD_CLOSED \
	{                \
		-1, -1   \
	}

/* Open the epoll set and the timer. 0, or -1 and `err`. */
int fz_pollfd_open(struct fz_pollfd *pollfd, struct fz_err *err);
void fz_pollfd_close(struct fz_pollfd *pollfd);

/*
 * Add the epoll set of the loop. The kernel removes a closed set by itself. 0,
 * or -1 and `err`.
 */
int fz_pollfd_add(const struct fz_pollfd *pollfd, int epfd, struct fz_err *err);

/*
 * Make the descriptor readable from `at_ns` on, until the next call.
 * FZ_CLOCK_NEVER: it is readable only if a descriptor of the loop is ready.
 */
void fz_pollfd_arm(const struct fz_pollfd *pollfd, int64_t at_ns);

#endif
