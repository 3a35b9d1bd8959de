/*
 * The name of a NATS server, with DNS servers that do not answer.
 * wrap: getaddrinfo pthread_create calloc
 */
#define _GNU_SOURCE /* EAI_NODATA */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "gateway/server_name.h"

int __real_getaddrinfo(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **list);
int __wrap_getaddrinfo(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **list);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*f)(void *), void *ctx);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*f)(void *), void *ctx);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static int answer; /* answer of the DNS server; 0: it does not answer */
static sem_t silence, ended;
static bool no_thread, no_memory;

int
__wrap_getaddrinfo(const char *name, const char *service,
    const struct addrinfo *hints, struct addrinfo **list)
{
	if (hints->ai_flags & AI_NUMERICHOST)
		return __real_getaddrinfo(name, service, hints, list);
	if (answer != 0)
		return answer;
	sem_wait(&silence);
	sem_post(&ended);
	return EAI_AGAIN;
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*f)(void *), void *ctx)
{
	return no_thread ? EAGAIN : __real_pthread_create(thread, attr, f, ctx);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return no_memory ? NULL : __real_calloc(n, size);
}

static void
check(const char *host, int rc, const char *text)
{
	struct fz_err err = { 0 };

	answer = rc;
	assert_int_equal(fz_server_name_check(host, &err), -1);
	assert_string_equal(err.text, text);
}

static void
test_silent_servers_are_an_error_before_they_have_all_been_asked(void **state)
{
	int64_t began_ns = fz_clock_ns();

	(void)state;
	check(
	    "one.example", 0, "no DNS server answers for the name one.example");
	assert_true(fz_clock_ns() - began_ns < 60 * FZ_CLOCK_SECOND);
	/* the query ends later; its thread frees its memory then */
	sem_post(&silence);
	sem_wait(&ended);
}

static void
test_an_answer_is_passed_on(void **state)
{
	struct fz_err err = { 0 };

	(void)state;
	check("a", EAI_NONAME, "the name a is not known");
	check("a", EAI_NODATA, "the name a is not known");
	check("[b]", EAI_AGAIN, "no DNS server answers for the name b");
	/* no error here: the connection will fail and report the reason */
	answer = EAI_FAIL;
	assert_int_equal(fz_server_name_check("a", &err), 0);
}

static void
test_without_a_thread_or_memory_the_name_is_looked_up(void **state)
{
	(void)state;
	no_thread = true;
	check("a", EAI_NONAME, "the name a is not known");
	no_thread = false;
	no_memory = true;
	check("a", EAI_NONAME, "the name a is not known");
	no_memory = false;
}

static void
test_an_address_needs_no_query(void **state)
{
	struct fz_err err = { 0 };

	(void)state;
	answer = EAI_NONAME;
	assert_int_equal(fz_server_name_check("127.0.0.1", &err), 0);
	assert_int_equal(fz_server_name_check("[::1]", &err), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_silent_servers_are_an_error_before_they_have_all_been_asked),
		cmocka_unit_test(test_an_answer_is_passed_on),
		cmocka_unit_test(
		    test_without_a_thread_or_memory_the_name_is_looked_up),
		cmocka_unit_test(test_an_address_needs_no_query),
	};

	sem_init(&silence, 0, 0);
	sem_init(&ended, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
