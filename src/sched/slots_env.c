/* environ */
#define _GNU_SOURCE
#include "sched/slots.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "os/jobserver.h"
#include "os/process.h"
#include "sched/slots_state.h"
#include "wire/account.h"
#include "worker/engine.h"
#include "worker/worker.h"

static bool
is_current(const struct fz_slots *s, char *const *env)
{
	size_t i = 0;

	if (s->environ_ == NULL || s->made_for != s->n)
		return false;
	while (env[i] != NULL && env[i] == s->made_of[i])
		i++;
	return env[i] == s->made_of[i];
}

/*
 * The parent prepares the environment of its workers, and a worker only sets
 * `environ` to it: setenv() in the worker would take as long as its fork.
 */
int
fz_slots_prepare(struct fz_slots *slots, struct fz_err *err)
{
	static char *const none[] = { NULL };
	char *const *env = environ != NULL ? environ : none;
	char **copy, **made_of;
	size_t n = 0;

	if (slots->lineage != NULL)
		fz_account_share(&slots->engine->membership, slots->lineage);
	if (slots->entered || is_current(slots, env))
		return 0;
	while (env[n] != NULL)
		n++;
	copy = fz_jobserver_environ(env, slots->n, slots->shared);
	made_of = malloc((n + 1) * sizeof(*made_of));
	if (copy == NULL || made_of == NULL) {
		free(copy);
		free(made_of);
		return fz_err_nomem(err, "the environment of workers");
	}
	memcpy(made_of, env, (n + 1) * sizeof(*made_of));
	free(slots->environ_);
	free(slots->made_of);
	slots->environ_ = copy;
	slots->made_of = made_of;
	slots->made_for = slots->n;
	return 0;
}

void
fz_slots_lend(const struct fz_slots *slots, struct fz_worker_slots *lent)
{
	*lent = (struct fz_worker_slots){
		.environ_ = slots->entered ? environ : slots->environ_,
		.n = slots->n,
		.shared = { slots->shared[0], slots->shared[1] },
		.lineage = slots->lineage,
	};
}

void
fz_slots_count_in(struct fz_slots *slots, struct fz_lineage *lineage)
{
	lineage->above = slots->lineage;
	lineage->generation = fz_process.generation;
	slots->lineage = lineage;
}

void
fz_slots_enter(struct fz_slots *slots, struct fz_lineage *lineage)
{
	fz_slots_count_in(slots, lineage);
	if (slots->engine->slots != slots) {
		fz_slots_ref(slots);
		slots->engine->slots = slots;
	}
	if (slots->entered)
		return;
	slots->entered = true;
	environ = slots->environ_;
	for (int i = 0; i < 2 && slots->shared[i] != -1; i++)
		fcntl(slots->shared[i], F_SETFD, 0);
}
