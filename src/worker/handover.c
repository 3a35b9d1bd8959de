#include "worker/handover.h"

#include "base/clock.h"
#include "os/cpus.h"
#include "worker/worker_state.h"

/* Expected maximum time for a worker that spins to begin its call. */
#define HANDOVER_START_NS (FZ_CLOCK_MS / 300)
/* Expected maximum time for a worker that spins to reply to a short call. */
#define HANDOVER_REPLY_NS (FZ_CLOCK_MS / 100)

static struct fz_engine *
engine_of(const struct fz_worker *worker)
{
	return worker->private->opts.engine;
}

/*
 * The time until which the parent need not yield its processor to the worker. 0
 * if the worker has no job, or may need that processor itself.
 */
static int64_t
hold_until(const struct fz_awaited *awaited)
{
	const struct fz_worker_private *p =
	    FZ_CONTAINER_OF(awaited, const struct fz_worker_private, awaited);
	int cpu = p->link->ops->cpu(p->link);

	if (p->worker->njobs == 0 || cpu == -1 || cpu == fz_cpus_current())
		return 0;
	return fz_clock_after(p->worker->news_ns, fz_worker_has_begun(p->worker)
						      ? HANDOVER_REPLY_NS
						      : HANDOVER_START_NS);
}

/*
 * The follower of a worker; NULL if unknown. After any worker was freed, a
 * follower that was noted before counts as unknown, because it may be the freed
 * one.
 */
static struct fz_worker *
follower_of(const struct fz_worker *worker)
{
	const struct fz_follower *f = &worker->private->follower;

	return f->nfreed == engine_of(worker)->nfreed ? f->worker : NULL;
}

void
fz_handover_sent(struct fz_worker *worker)
{
	struct fz_worker_private *p = worker->private;
	const struct fz_engine *engine = engine_of(worker);
	struct fz_worker *before = engine->replied;

	if (p->link->ops->cpu != NULL) {
		p->awaited.hold_until = hold_until;
		fz_loop_await(engine->loop, &p->awaited);
	}
	if (before != NULL)
		before->private->follower =
		    (struct fz_follower){ before != worker ? worker : NULL,
			    engine->nfreed };
}

void
fz_handover_replied(struct fz_worker *worker)
{
	const struct fz_worker *next = follower_of(worker);
	struct fz_engine *engine = engine_of(worker);

	engine->replied = worker;
	/* If `worker` has more jobs, it may need the processor itself. */
	if (next != NULL && next->njobs == 0 && worker->njobs == 1 &&
	    fz_loop_nbusy(engine->loop) <= 1 &&
	    next->private->link->ops->expect != NULL)
		next->private->link->ops->expect(next->private->link);
}

void
fz_handover_forget(struct fz_worker *worker)
{
	struct fz_engine *engine = engine_of(worker);

	engine->nfreed++;
	if (engine->replied == worker)
		engine->replied = NULL;
	fz_loop_unawait(engine->loop, &worker->private->awaited);
}
