#include "sched/job_event.h"

#include <stdlib.h>

#include "base/vec.h"
#include "worker/change.h"

void
fz_job_event_add(struct fz_job_event_log *log, const struct fz_job_event *event)
{
	struct fz_job_event *list;

	if (log->change == NULL)
		return;
	list = fz_vec_room(log->list, &log->cap, log->n + 1, sizeof(*list));
	if (list == NULL)
		return;
	log->list = list;
	list[log->n++] = *event;
	fz_changed(log->change);
}

int
fz_job_event_next(struct fz_job_event_log *log, struct fz_job_event *event)
{
	if (log->at == log->n) {
		log->at = log->n = 0;
		return 0;
	}
	*event = log->list[log->at++];
	return 1;
}

void
fz_job_event_fini(struct fz_job_event_log *log)
{
	free(log->list);
}
