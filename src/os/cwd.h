/*
 * cwd.h - the working directory of calls: a change in one call ends with it.
 *
 * 	enter           calls may follow
 * 	  ... a call
 * 	  return        before the next call: back to the start directory
 * 	leave
 *
 * A system call for each call of a function would cost more than a short
 * function. In a program whose chdir() and fchdir() report themselves, as those
 * of the command do, fz_cwd_return() makes a system call only after a call that
 * has changed the directory.
 */
#ifndef FZ_CWD_H
#define FZ_CWD_H

#include <stdbool.h>

struct fz_cwd {
	struct fz_cwd *outer; /* the call around this one; NULL: none */
	bool outer_moved;
	int fd; /* start directory; -1: calls have not left it */
};

/*
 * Whether the calls of this thread may have left the start directory. The
 * current directory itself belongs to the process.
 */
extern _Thread_local bool fz_cwd_moved;

/*
 * fz_cwd_enter() makes the current directory the start directory of calls,
 * until fz_cwd_leave() goes back to it.
 */
void fz_cwd_enter(struct fz_cwd *cwd);
void fz_cwd_leave(struct fz_cwd *cwd);

/* The slow path of fz_cwd_return(), which is its only caller. */
void fz_cwd_go_back(void);

/* Go back to the start directory. */
static inline void
fz_cwd_return(void)
{
	if (fz_cwd_moved)
		fz_cwd_go_back();
}

/* Make the current directory the start directory from now on. */
void fz_cwd_stay(void);

/*
 * fz_cwd_open() returns a descriptor of the current directory, or -1 with
 * errno. fz_cwd_go() makes the directory of a descriptor the current one; on
 * failure nothing changes.
 */
int fz_cwd_open(void);
void fz_cwd_go(int fd);

/*
 * The program calls fz_cwd_reported() once, and fz_cwd_moving() before each
 * chdir() and fchdir().
 */
void fz_cwd_reported(void);
void fz_cwd_moving(void);

/* In a forked child: forget the parent's calls. */
void fz_cwd_in_child(void);

#endif
