/* syscall() is no part of C or POSIX. */
#define _GNU_SOURCE
#include "wire/claim.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool
membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0) == 0;
}

void
fz_claim_init(struct fz_claim *c)
{
	c->fenced = !membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
	atomic_store(&c->started, fz_claim_word(0));
	atomic_store(&c->floor, fz_claim_word(0));
	atomic_store(&c->granted, fz_claim_word(0));
	atomic_store(&c->decided, fz_claim_word(0));
}

void
fz_claim_enter(void)
{
	membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
}

static uint32_t
load(const _Atomic uint64_t *word)
{
	return (uint32_t)atomic_load(word);
}

static void
store(_Atomic uint64_t *word, uint32_t n)
{
	atomic_store(word, fz_claim_word(n));
}

bool
fz_claim_is_whole(const struct fz_claim *c)
{
	return fz_claim_is_word(atomic_load(&c->started)) &&
	       fz_claim_is_word(atomic_load(&c->floor)) &&
	       fz_claim_is_word(atomic_load(&c->granted)) &&
	       fz_claim_is_word(atomic_load(&c->decided));
}

uint32_t
fz_claim_started(const struct fz_claim *c)
{
	uint32_t started = load(&c->started);

	if ((int32_t)(started - load(&c->floor)) > 0)
		return started;
	return load(&c->granted);
}

uint32_t
fz_claim_recall(struct fz_claim *c, uint32_t next)
{
	uint32_t before = fz_claim_started(c), old = load(&c->floor);
	uint32_t started;

	store(&c->floor, next);
	if (c->fenced == 0)
		membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
	atomic_thread_fence(memory_order_seq_cst);
	started = load(&c->started);
	/* a number that was taken back earlier stays taken back */
	if ((int32_t)(started - old) <= 0)
		started = before;
	store(&c->granted, started);
	store(&c->decided, next);
	return started;
}

void
fz_claim_settle(struct fz_claim *c, uint32_t answered)
{
	uint32_t past = answered - load(&c->floor);

	if (past < UINT32_C(1) << 30 || past > INT32_MAX)
		return;
	store(&c->granted, answered);
	store(&c->decided, answered);
	store(&c->floor, answered);
}

void
fz_claim_permit(struct fz_claim *c, uint32_t end)
{
	/* above all numbers that are used before the next fz_claim_permit() */
	uint32_t floor = end + (UINT32_C(1) << 30);

	store(&c->granted, end);
	store(&c->decided, floor);
	store(&c->floor, floor);
}

bool
fz_claim_is_taken_back(const struct fz_claim *c, uint32_t n)
{
	uint32_t floor = load(&c->floor);

	return (int32_t)(n - floor) < 0 && load(&c->decided) == floor &&
	       (int32_t)(n - load(&c->granted)) >= 0;
}

bool
fz_claim_granted(struct fz_claim *c, uint32_t n, bool *lost)
{
	uint32_t floor;

	while (fz_claim_is_whole(c)) {
		floor = load(&c->floor);
		if ((int32_t)(n - floor) >= 0)
			return true;
		if (load(&c->decided) == floor)
			return (int32_t)(n - load(&c->granted)) < 0;
		sched_yield(); /* the parent is about to store `decided` */
	}
	*lost = true;
	return false;
}
