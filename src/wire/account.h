/*
 * account.h - how many tokens of the jobserver (see slots.h) a worker and its
 * descendants hold, so that its parent can write them back when it dies.
 *
 * That of a forked worker is in its mailbox. Programs do not map that, so that
 * theirs are in the shared heap. They know their accounts by name, and count
 * what they hold also in those of their ancestors. If an ancestor has its
 * account elsewhere, it gets a second one in the heap for the programs below
 * it. What it holds is then the sum of both.
 */
#ifndef FZ_ACCOUNT_H
#define FZ_ACCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/list.h"

struct fz_membership;

struct fz_account {
	_Atomic int32_t held;
	/* The name of the one in the heap, or its own name there; 0: none. */
	_Atomic uint64_t shared;
};

/*
 * The accounts in which a process counts its tokens: its own, then those of its
 * ancestors. In private memory, because a worker may overwrite shared memory.
 */
struct fz_lineage {
	struct fz_account *account;
	const struct fz_lineage *above; /* the parent's; NULL: there is none */
	uint32_t generation; /* of its process; others have inherited it */
};

enum { FZ_ACCOUNT_DEPTH = 64 }; /* most ancestors in which a program counts */

/* The account of a program. */
struct fz_program_account {
	struct fz_account *account;
	uint64_t name;
	int64_t retired_ns;  /* time at which its program was dead */
	struct fz_list link; /* in the list of retired accounts */
};

/*
 * A new account for a program below `lineage`, which may be NULL. `retired` is
 * the engine's list of accounts to use again. NULL if there is no shared
 * memory.
 */
struct fz_program_account *fz_account_new(struct fz_membership *own,
    struct fz_list *retired, const struct fz_lineage *lineage);

/*
 * Before a fork: programs below the child will count in this process, too. If
 * no process has started a program yet, they will find a place themselves; that
 * one is never freed.
 */
void fz_account_share(
    struct fz_membership *own, const struct fz_lineage *lineage);

/*
 * Its program is dead: it will be used again, but not soon, because descendants
 * of the program may still count in it. NULL is allowed.
 */
void fz_account_retire(
    struct fz_list *retired, struct fz_program_account *account);

/* Forget the retired accounts, because the process leaves the heap. */
void fz_account_forget(struct fz_list *retired);

/* The account in the heap with this name; NULL if there is none. */
struct fz_account *fz_account_find(uint64_t name);

/*
 * In a program: the account of that name and those of its ancestors, at most
 * `max`. Returns how many.
 */
unsigned fz_account_lineage(
    uint64_t name, struct fz_lineage *lineage, unsigned max);

#endif
