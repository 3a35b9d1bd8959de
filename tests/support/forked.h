/* forked.h - a process that a test forks and reads from, and calls that fail in
 * it. */
#ifndef FORKED_H
#define FORKED_H

#include <stddef.h>
#include <stdint.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <termios.h>

#include "proc/death.h"
#include "proc/proc.h"

enum call {
	NONE,
	FORK,
	OPEN_NULL,
	OPEN_PROC,
	OPENAT,
	READ,
	PDEATHSIG,
	SUBREAPER,
	SETPGID,
	SIGACTION,
	DUP2,
	FCNTL,
	GETRLIMIT,
	SETRLIMIT,
	GETDENTS,
	READLINK,
};

extern enum call failing;

extern int interruptions; /* calls that still fail with EINTR */

extern bool hangs_untied; /* children hang before they watch their parent */

/* Children kill their parent before they are set up, and continue later. */
extern bool loses_parent;

extern bool kills_parent; /* children watch their parent, then kill it */

extern int slow_proc_ms; /* time that each read of a directory takes */

/*
 * Number of the next reads of /proc/PID/environ that are empty, as in an exec.
 */
extern int empty_environs;

/* A pipe from the child, and the number of descriptors before the test. */
struct forked {
	int ends[2];
	struct fz_proc proc;
	int nfds;
};

int forked_setup(void **state);

int forked_teardown(void **state);

extern const struct fz_proc_opts as_parent;

void forked_start(struct forked *f, fz_proc_main entry);

/* Read a line from the child, or up to EOF, as a string. */
void forked_hear(struct forked *f, char *text, size_t len);

void forked_tell(struct forked *f, const char *text);

void forked_tell_number(struct forked *f, long n);

void forked_nap(long ms);

int return_seven(void *ctx, const struct fz_err *failed);

int wait_for_ever(void *ctx, const struct fz_err *failed);

/* Calls that do not fail on demand. */
pid_t __real_fork(void);
int __real_fcntl(int fd, int cmd, ...);

/* Read a pid from the child. */
pid_t forked_hear_pid(struct forked *f);

/* Whether the process does not exist, or is a zombie not yet reaped. */
bool forked_is_gone(pid_t pid);

#endif
