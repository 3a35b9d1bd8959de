/* syscall() is no part of C or POSIX. */
#define _GNU_SOURCE
#include "engine/claim.h"

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
}

void
fz_claim_enter(void)
{
	membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
}

uint32_t
fz_claim_started(const struct fz_claim *c)
{
	uint32_t started = atomic_load(&c->started);

	if ((int32_t)(started - atomic_load(&c->floor)) > 0)
		return started;
	return atomic_load(&c->granted);
}

uint32_t
fz_claim_recall(struct fz_claim *c, uint32_t next)
{
	uint32_t before = fz_claim_started(c), old = atomic_load(&c->floor);
	uint32_t started;

	atomic_store(&c->floor, next);
	if (!c->fenced)
		membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
	atomic_thread_fence(memory_order_seq_cst);
	started = atomic_load(&c->started);
	/* One that was taken back earlier still counts as that. */
	if ((int32_t)(started - old) <= 0)
		started = before;
	atomic_store(&c->granted, started);
	atomic_store(&c->decided, next);
	return started;
}

void
fz_claim_settle(struct fz_claim *c, uint32_t answered)
{
	uint32_t past = answered - atomic_load(&c->floor);

	if (past < UINT32_C(1) << 30 || past > INT32_MAX)
		return;
	atomic_store(&c->granted, answered);
	atomic_store(&c->decided, answered);
	atomic_store(&c->floor, answered);
}

bool
fz_claim_granted(struct fz_claim *c, uint32_t n)
{
	uint32_t floor;

	for (;;) {
		floor = atomic_load(&c->floor);
		if ((int32_t)(n - floor) >= 0)
			return true;
		if (atomic_load(&c->decided) == floor)
			return (int32_t)(n - atomic_load(&c->granted)) < 0;
		sched_yield(); /* the parent is about to decide */
	}
}
