/* slots_state.h - what the files of slots share of one set of slots. */
#ifndef FZ_SLOTS_STATE_H
#define FZ_SLOTS_STATE_H

#include <stdbool.h>

#include "os/loop.h"

struct fz_account;
struct fz_engine;
struct fz_slots_waiter;

enum { SLOTS_OF_MAKE = 4096 }; /* tokens at most that one process takes */

struct fz_slots {
	struct fz_engine *engine;
	unsigned refs;
	unsigned n;    /* of all processes; 0: no limit yet */
	int shared[2]; /* for programs that workers start, -1: make's are */
	int in, out;   /* our ends: reading never waits; `in` from first use */
	unsigned used; /* slots of this process, its own counted */
	unsigned char *tokens; /* that it holds; make may want them back as
				* they were */
	unsigned ntokens, tokens_cap;
	bool dry;     /* there was no token, and the watch waits for one */
	bool is_ours; /* this process has made them */
	struct fz_account *account; /* of this process, or NULL */
	struct fz_account *page;    /* where it is no worker's */
	struct fz_slots_waiter *waiters;
	struct fz_watch watch;
	struct fz_defer settle;
	bool settling; /* it was called, and put itself at the end */
	struct fz_fork_hook hook;
	/* For workers; what it was made of, as long as it was that. */
	char **environ_, **made_of;
	unsigned made_for;
	bool entered; /* it is the environment of this process */
};

/* Read one token and count it in the accounts; false if there is none. */
bool fz_slots_read_token(struct fz_slots *s);

/* Uncount the tokens beyond the first `keep` and write them to the pipe. */
void fz_slots_give_up_tokens(struct fz_slots *s, unsigned keep);

/* Write `n` tokens that this process does not hold to the pipe. */
void fz_slots_write_new_tokens(const struct fz_slots *s, unsigned n);

/* Add or remove tokens until the pipe that this process made holds `want`. */
void fz_slots_set_tokens(struct fz_slots *s, unsigned want);

#endif
