#include "pool_user.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "wire/blob.h"

static void
freed(struct fz_pool_client *user, struct fz_worker *worker)
{
	struct pool_user *u = (struct pool_user *)user;

	if (worker != NULL)
		u->nfreed++;
	else
		u->nothers++;
}

void
pool_user_init(struct pool_user *u)
{
	*u = (struct pool_user){ .user.freed = freed };
}

static struct pool_user *
user_of(struct fz_job *job)
{
	return ((struct pool_task *)job)->user;
}

static void
done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	user_of(job)->ndone++;
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(values[i]);
}

static void
failed(struct fz_job *job, struct fz_failure *failure)
{
	user_of(job)->nfailed++;
	user_of(job)->kind = failure->err.kind;
	fz_blob_unref(failure->value);
}

static void
returned(struct fz_job *job, uint32_t nitems)
{
	(void)nitems;
	user_of(job)->nreturned++;
}

static void
started(struct fz_job *job)
{
	(void)job;
}

static const struct fz_job_ops ops = { done, failed, returned, started, NULL };

int
pool_user_send(struct fz_worker *worker, struct pool_user *u,
    struct pool_task *t, enum job func, uint64_t n)
{
	struct fz_blob *arg = blob_of_number(n);
	int rc = -1;

	*t = (struct pool_task){ .job = { .ops = &ops,
				     .func = func,
				     .nvalues = 1,
				     .timeout_ns = FZ_CLOCK_NEVER },
		.user = u };
	if (arg != NULL)
		rc = fz_worker_send(worker, &t->job, &arg, 1, NULL);
	fz_blob_unref(arg);
	return rc;
}

int
pool_user_ended(const struct pool_user *u)
{
	return u->ndone + u->nfailed + u->nreturned;
}

void
pool_user_wait(struct world *w, const struct pool_user *u, int n)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (pool_user_ended(u) < n)
		assert_true(turn_until(w, until));
}
