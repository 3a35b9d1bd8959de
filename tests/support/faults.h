/*
 * faults.h - calls to the system that fail on demand, in this process only.
 *
 * A test that includes this has these two lines in its first comment:
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

extern struct faults {
	pid_t pid;             /* the process whose calls fail; 0: none */
	unsigned long calls;   /* calls since faults_at() */
	unsigned long fail_at; /* number of the call that fails; 0: none */
	int fork_error;        /* errno of each fork; 0: forks succeed */
	unsigned odd_every;    /* every n-th read or write fails; 0: none */
	int odd_error;         /* errno of these reads and writes */
	size_t most;           /* bytes of a read or write; 0: no limit */
	unsigned long nodd;    /* reads and writes that failed */
	unsigned long nios;    /* reads and writes that were counted */
} faults;

/* The `n`-th call from now on fails; 0: none. */
void faults_at(unsigned long n);

/* From now on no call fails. Returns whether the call number `n` was made. */
bool faults_end(void);

/*
 * Call `scenario` while its first call to the system fails, then while the
 * second one fails, and so on until none fails. No child may be left. Without
 * a failure it must return 0. Returns how often it returned another number.
 */
int faults_at_each(int (*scenario)(void *ctx), void *ctx);

/* A write() that does not fail on demand. */
ssize_t __real_write(int fd, const void *bytes, size_t n);

#endif
