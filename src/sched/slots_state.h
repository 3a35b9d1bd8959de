/* slots_state.h - what the files of slots share: struct fz_slots. */
#ifndef FZ_SLOTS_STATE_H
#define FZ_SLOTS_STATE_H

#include <stdbool.h>

#include "os/loop.h"
#include "wire/account.h"

struct fz_engine;
struct fz_slots_waiter;

enum { SLOTS_OF_MAKE = 4096 }; /* maximum number of tokens of one process */

struct fz_slots {
	struct fz_engine *engine;
	unsigned refs;
	unsigned n; /* number of slots of all processes; 0: not limited yet */
	/* the pipe for workers' programs; -1: they use the pipe of make */
	int shared[2];
	/*
	 * this process's ends of the pipe; `in` is nonblocking, and -1 until it
	 * is first used
	 */
	int in, out;
	/* number of slots in use by this process, including its own slot */
	unsigned used;
	/* the tokens held; make must get the same bytes back */
	unsigned char *tokens;
	unsigned ntokens, tokens_cap;
	bool dry; /* the pipe was empty; a token must arrive before a read */
	bool is_ours; /* this process created the pipe */
	/* accounts of this process; NULL: none */
	const struct fz_lineage *lineage;
	/* account of the process that created the slots */
	struct fz_lineage first;
	/* mapping of an account that is in no mailbox; NULL: none */
	struct fz_account *page;
	struct fz_slots_waiter *waiters;
	struct fz_watch watch;
	struct fz_defer settle;
	bool settling; /* settle() was called once and is called again */
	struct fz_fork_hook hook;
	/*
	 * `environ_` is the environment for workers. It was built from the
	 * environment `made_of` and the number of slots `made_for`; a
	 * comparison detects changes.
	 */
	char **environ_, **made_of;
	unsigned made_for;
	bool entered; /* this process has the environment `environ_` */
};

/* Read a token and count it in the accounts. False if there is none. */
bool fz_slots_read_token(struct fz_slots *s);

/*
 * Write all tokens except the first `keep` to the pipe, and subtract them from
 * the accounts.
 */
void fz_slots_give_up_tokens(struct fz_slots *s, unsigned keep);

/* Write `n` additional tokens to the pipe. */
void fz_slots_write_new_tokens(const struct fz_slots *s, unsigned n);

/* Make the pipe, which this process has created, hold `want` tokens. */
void fz_slots_set_tokens(struct fz_slots *s, unsigned want);

#endif
