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
	pid_t pid;             /* whose calls fail, 0: none */
	unsigned long calls;   /* counted since faults_at() */
	unsigned long fail_at; /* the one that fails, 0: none */
	int fork_error;        /* what every fork fails with, 0: it works */
	unsigned odd_every;    /* of so many reads and writes one ... */
	int odd_error;         /* ... fails with this */
	size_t most;           /* bytes a read or write takes, 0: all */
	unsigned long nodd;    /* how often it did */
	unsigned long nios;    /* reads and writes counted for that */
} faults;

/* Let the `n`-th call from now on fail; 0: none. */
void faults_at(unsigned long n);

/* Nothing fails any more. Returns whether the call that was to fail came. */
bool faults_end(void);

/*
 * Call `scenario` with its first call failing, then with its second, and so on
 * until it makes no further one. No child may be left each time, and the last
 * time it must return 0. Returns how often it returned another number.
 */
int faults_at_each(int (*scenario)(void *ctx), void *ctx);

/* A write that always works. */
ssize_t __real_write(int fd, const void *bytes, size_t n);

#endif
