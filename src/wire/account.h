/*
 * account.h - how many tokens of the jobserver (see slots.h) a worker and its
 * descendants hold, so that its parent can write them back when it dies.
 *
 * The account of a forked worker is in its mailbox. A program does not map its
 * parent's mailboxes, so its account is in the shared heap, where the program
 * finds it by name. Each process counts its tokens in its own account and in
 * those of its ancestors. An ancestor whose account is in a mailbox gets a
 * second account in the heap for the programs below it, and holds the sum of
 * both.
 */
#ifndef FZ_ACCOUNT_H
#define FZ_ACCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/list.h"

struct fz_membership;

struct fz_account {
	_Atomic int32_t held;
	/*
	 * Name of this account if it is in the heap, else name of the second
	 * account; 0: none.
	 */
	_Atomic uint64_t shared;
};

/*
 * The accounts in which a process counts its tokens: its own, then those of its
 * ancestors. They are kept in private memory, because a worker may overwrite
 * shared memory.
 */
struct fz_lineage {
	struct fz_account *account;
	/* the lineage of the parent; NULL: there is none */
	const struct fz_lineage *above;
	/* generation of the process whose account this is */
	uint32_t generation;
};

/* maximum number of accounts in which a program counts */
enum { FZ_ACCOUNT_DEPTH = 64 };

/* The account of a program. */
struct fz_program_account {
	struct fz_account *account;
	uint64_t name;
	int64_t retired_ns;  /* time at which it was retired */
	struct fz_list link; /* in the list of retired accounts */
};

/*
 * A new account for a program below `lineage`, which may be NULL. `retired` is
 * the engine's list of retired accounts, one of which may be used again. NULL
 * if there is no shared memory.
 */
struct fz_program_account *fz_account_new(struct fz_membership *own,
    struct fz_list *retired, const struct fz_lineage *lineage);

/*
 * Before a fork: if any process has started a program, make the account of this
 * process in the heap. Programs below the child count their tokens in this
 * account. If a descendant had to make it, it would never be freed.
 */
void fz_account_share(
    struct fz_membership *own, const struct fz_lineage *lineage);

/*
 * Retire the account of a dead program. The account is used again after a
 * while, because descendants of the program may count in it. NULL is allowed.
 */
void fz_account_retire(
    struct fz_list *retired, struct fz_program_account *account);

/* Forget the retired accounts, because the process leaves the heap. */
void fz_account_forget(struct fz_list *retired);

/* The account in the heap with this name; NULL if there is none. */
struct fz_account *fz_account_find(uint64_t name);

/*
 * In a program: find the account with that name and the accounts of its
 * ancestors, `max` in all at most. Returns their number.
 */
unsigned fz_account_lineage(
    uint64_t name, struct fz_lineage *lineage, unsigned max);

#endif
