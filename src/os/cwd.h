/*
 * cwd.h - the working directory of calls: where one goes, the next does not.
 *
 *	enter           calls may follow
 *	  ... a call
 *	  return        before the next one: back to where they begin
 *	leave
 *
 * A system call for each would cost more than a short call does. In a program
 * whose chdir() and fchdir() report themselves, as the command's do, a return
 * costs one only after a call that has changed the directory.
 */
#ifndef FZ_CWD_H
#define FZ_CWD_H

#include <stdbool.h>

struct fz_cwd {
	struct fz_cwd *outer; /* entered and not left; NULL: none */
	bool outer_moved;
	int fd; /* the directory that calls begin in; -1: still the current */
};

/* The directory may not be the one that calls begin in. */
extern bool fz_cwd_moved;

/* Calls begin in the current directory until fz_cwd_leave(), which goes back.
 */
void fz_cwd_enter(struct fz_cwd *cwd);
void fz_cwd_leave(struct fz_cwd *cwd);

/* For fz_cwd_return(). */
void fz_cwd_go_back(void);

/* Go back to the directory that calls begin in. */
static inline void
fz_cwd_return(void)
{
	if (fz_cwd_moved)
		fz_cwd_go_back();
}

/* From now on calls begin in the current directory. */
void fz_cwd_stay(void);

/*
 * A descriptor of the current directory, -1 with errno. Go to one, as a call
 * does; where that fails, stay.
 */
int fz_cwd_open(void);
void fz_cwd_go(int fd);

/* The program's chdir() and fchdir() call fz_cwd_moving() first. */
void fz_cwd_reported(void);
void fz_cwd_moving(void);

/* In a forked child: calls of the parent are not under way here. */
void fz_cwd_in_child(void);

#endif
