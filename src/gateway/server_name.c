#define _GNU_SOURCE /* for res_init and EAI_NODATA */
#include "gateway/server_name.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <resolv.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"

/* Time to find the addresses of a name. */
#define SERVER_NAME_NS (5 * FZ_CLOCK_SECOND / 2)

void
fz_server_name_limit_wait(void)
{
	if (res_init() != 0)
		return;
	_res.retrans = 1; /* in seconds */
	_res.retry = 2;
}

void
fz_server_name_bare(char name[FZ_SERVER_NAME_MAX], const char *host)
{
	size_t len = strlen(host);
	int start = host[0] == '[' && host[len - 1] == ']';

	snprintf(name, FZ_SERVER_NAME_MAX, "%.*s", (int)len - 2 * start,
	    host + start);
}

/*
 * A query in a thread. The caller or the thread, whichever is last, frees it.
 */
struct query {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	char name[FZ_SERVER_NAME_MAX];
	bool has_ended;
	bool is_left; /* nothing waits for the result any more */
	int rc;       /* result of getaddrinfo() */
};

static void
query_free(struct query *q)
{
	pthread_cond_destroy(&q->ended);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* With AI_NUMERICHOST in `flags` only an address is accepted. */
static int
look_up(const char *name, int flags)
{
	const struct addrinfo hints = { .ai_flags = flags };
	struct addrinfo *list = NULL;
	int rc = getaddrinfo(name, NULL, &hints, &list);

	if (rc == 0)
		freeaddrinfo(list);
	return rc;
}

static void *
query_main(void *ctx)
{
	struct query *q = ctx;
	bool is_left;
	int rc;

	/* each thread has its own settings of the resolver */
	fz_server_name_limit_wait();
	rc = look_up(q->name, 0);
	pthread_mutex_lock(&q->lock);
	q->rc = rc;
	q->has_ended = true;
	is_left = q->is_left;
	pthread_cond_signal(&q->ended);
	pthread_mutex_unlock(&q->lock);
	if (is_left)
		query_free(q);
	return NULL;
}

static struct query *
query_new(const char *name)
{
	struct query *q = calloc(1, sizeof(*q));
	pthread_condattr_t attr;

	if (q == NULL)
		return NULL;
	snprintf(q->name, sizeof(q->name), "%s", name);
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->ended, &attr);
	pthread_condattr_destroy(&attr);
	return q;
}

/* Wait for the result. EAI_AGAIN if none has come in time. */
static int
query_wait(struct query *q)
{
	int64_t until_ns = fz_clock_ns() + SERVER_NAME_NS;
	struct timespec until;
	bool has_ended;
	int rc = 0;

	until.tv_sec = until_ns / FZ_CLOCK_SECOND;
	until.tv_nsec = until_ns % FZ_CLOCK_SECOND;
	pthread_mutex_lock(&q->lock);
	while (!q->has_ended && rc == 0)
		rc = pthread_cond_timedwait(&q->ended, &q->lock, &until);
	has_ended = q->has_ended;
	rc = has_ended ? q->rc : EAI_AGAIN;
	q->is_left = true;
	pthread_mutex_unlock(&q->lock);
	if (has_ended)
		query_free(q);
	return rc;
}

/*
 * Look up the name in a thread, because getaddrinfo() may wait for all DNS
 * servers, search domains and attempts in turn.
 */
static int
look_up_in_time(const char *name)
{
	struct query *q = query_new(name);
	pthread_t thread;

	if (q != NULL && pthread_create(&thread, NULL, query_main, q) == 0) {
		pthread_detach(thread);
		return query_wait(q);
	}
	if (q != NULL)
		query_free(q);
	return look_up(name, 0);
}

int
fz_server_name_check(const char *host, struct fz_err *err)
{
	char name[FZ_SERVER_NAME_MAX];
	int rc;

	fz_server_name_bare(name, host);
	if (look_up(name, AI_NUMERICHOST) == 0)
		return 0;
	rc = look_up_in_time(name);
	if (rc == EAI_AGAIN)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no DNS server answers for the name %.128s", name);
	if (rc == EAI_NONAME || rc == EAI_NODATA)
		return fz_err_set(
		    err, FZ_ERR_ERROR, "the name %.128s is not known", name);
	return 0; /* any other failure: the connection fails, too */
}
