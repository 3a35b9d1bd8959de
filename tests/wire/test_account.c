/*
 * Accounts of tokens in the shared heap: how they are found, reused, and
 * checked after a function has overwritten them.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#define _GNU_SOURCE /* for the headers of the test */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "faults.h"
#include "os/process.h"
#include "shared/heap.h"
#include "wire/account.h"
#include "world.h"

static struct fz_program_account *
new_account(struct world *w, const struct fz_lineage *above)
{
	return fz_account_new(
	    &w->engine.membership, &w->engine.accounts, above);
}

static void
retire(struct world *w, struct fz_program_account *account)
{
	fz_account_retire(&w->engine.accounts, account);
}

static void
test_account_a_program_counts_in_those_above(void **state)
{
	struct world *w = *state;
	struct fz_account top = { 0 }, middle = { 0 };
	struct fz_lineage above = { .account = &top },
			  own = { .account = &middle, .above = &above };
	struct fz_lineage lineage[FZ_ACCOUNT_DEPTH];
	struct fz_program_account *one = new_account(w, &own);
	struct fz_program_account *two = new_account(w, &own);
	struct fz_program_account *alone = new_account(w, NULL);

	assert_int_equal(fz_account_lineage(one->name, lineage, 64), 3);
	assert_ptr_equal(lineage[0].account, one->account);
	assert_ptr_equal(lineage[0].above, &lineage[1]);
	assert_ptr_equal(
	    lineage[1].account, fz_account_find(atomic_load(&middle.shared)));
	assert_ptr_equal(
	    lineage[2].account, fz_account_find(atomic_load(&top.shared)));
	assert_null(lineage[2].above);
	assert_int_equal(fz_account_lineage(two->name, lineage, 64), 3);
	assert_ptr_equal(
	    lineage[1].account, fz_account_find(atomic_load(&middle.shared)));
	assert_int_equal(fz_account_lineage(two->name, lineage, 2), 2);
	assert_null(lineage[1].above);
	assert_int_equal(fz_account_lineage(alone->name, lineage, 64), 1);
	assert_int_equal(fz_account_lineage(0, lineage, 64), 0);
	retire(w, one);
	retire(w, two);
	retire(w, alone);
	retire(w, NULL);
}

/* If one program starts another, their accounts are parent and child. */
static void
test_account_in_the_heap_is_its_own(void **state)
{
	struct world *w = *state;
	struct fz_program_account *one = new_account(w, NULL), *two;
	struct fz_lineage lineage[2];

	assert_int_equal(fz_account_lineage(one->name, lineage, 2), 1);
	two = new_account(w, lineage);
	assert_int_equal(fz_account_lineage(two->name, lineage, 2), 2);
	assert_ptr_equal(lineage[1].account, one->account);
	retire(w, one);
	retire(w, two);
}

static struct in_heap_head {
	struct fz_object object;
	struct fz_account account;
} * in_heap(const struct fz_account *account)
{
	uint64_t name = atomic_load(&account->shared);

	return FZ_CONTAINER_OF(
	    fz_account_find(name), struct in_heap_head, account);
}

/* An account is freed with the process that it belongs to, or never. */
static void
test_account_of_an_ancestor_outlives_its_maker(void **state)
{
	struct world *w = *state;
	struct fz_account top = { 0 }, own = { 0 };
	struct fz_lineage above = { .account = &top }, mine = { .account = &own,
		.above = &above,
		.generation = fz_process.generation };
	struct fz_program_account *one;

	above.generation = mine.generation + 1; /* another process */
	fz_account_share(&w->engine.membership, &mine);
	assert_int_equal(atomic_load(&own.shared), 0); /* no program yet */
	one = new_account(w, &mine);
	assert_true(atomic_load(&in_heap(&top)->object.sent));
	assert_false(atomic_load(&in_heap(&own)->object.sent));
	atomic_store(&own.shared, 0);
	fz_account_share(&w->engine.membership, &mine);
	assert_false(atomic_load(&in_heap(&own)->object.sent));
	retire(w, one);
}

static void
test_account_is_used_again_later(void **state)
{
	struct world *w = *state;
	struct fz_program_account *one = new_account(w, NULL), *two;

	retire(w, one);
	two = new_account(w, NULL);
	assert_ptr_not_equal(two, one);
	atomic_store(&one->account->held, 7);
	one->retired_ns -= 3600 * FZ_CLOCK_SECOND;
	assert_ptr_equal(new_account(w, NULL), one);
	assert_int_equal(atomic_load(&one->account->held), 0);
	retire(w, two);
	retire(w, one);
}

/* A function may overwrite an account with any bytes. */
static void
test_account_that_is_overwritten(void **state)
{
	struct world *w = *state;
	struct fz_program_account *one = new_account(w, NULL), *two;
	struct fz_lineage lineage[FZ_ACCOUNT_DEPTH], own;
	struct fz_account mine = { 0 };
	struct fz_object *object;
	uint64_t bad[] = { 1, one->name + 1, UINT64_MAX,
		one->name ^ UINT64_C(1) << 40 };

	own = (struct fz_lineage){ .account = &mine };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(fz_account_find(bad[i]));
		atomic_store(&mine.shared, bad[i]);
		two = new_account(w, &own);
		assert_int_not_equal(atomic_load(&mine.shared), bad[i]);
		assert_int_equal(fz_account_lineage(two->name, lineage, 64), 2);
		retire(w, two);
	}
	/* An account that is its own parent. */
	atomic_store(&mine.shared, one->name);
	two = new_account(w, &own);
	memcpy(
	    (unsigned char *)(one->account + 1), &one->name, sizeof(one->name));
	assert_int_equal(
	    fz_account_lineage(two->name, lineage, FZ_ACCOUNT_DEPTH),
	    FZ_ACCOUNT_DEPTH);
	retire(w, two);
	/* An account whose type was overwritten is not used again. */
	object = (struct fz_object *)(void *)((unsigned char *)one->account -
					      sizeof(*object));
	assert_int_equal(fz_heap_name(object), (uint32_t)one->name);
	atomic_store(&object->type, 0);
	retire(w, one);
	one->retired_ns -= 3600 * FZ_CLOCK_SECOND;
	two->retired_ns = one->retired_ns;
	fz_list_remove(&one->link); /* make it the oldest in the list */
	one->link.prev = &w->engine.accounts;
	one->link.next = w->engine.accounts.next;
	one->link.prev->next = one->link.next->prev = &one->link;
	two = new_account(w, NULL);
	assert_non_null(fz_account_find(two->name));
	retire(w, two);
}

/* Without memory for an account, the tokens of a program are not counted. */
static void
test_account_needs_memory(void **state)
{
	struct world *w = *state;
	struct fz_account mine = { 0 };
	const struct fz_lineage own = { .account = &mine };
	struct fz_program_account *account;

	fz_process.heap.failed = 1; /* this process cannot map the heap */
	assert_null(new_account(w, &own));
	assert_int_equal(atomic_load(&mine.shared), 0);
	fz_process.heap.failed = 0;
	retire(w, new_account(w, &own));
	faults_at(1);
	account = new_account(w, &own);
	assert_true(faults_end());
	assert_null(account);
	account = new_account(w, &own);
	assert_non_null(account);
	retire(w, account);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_account_a_program_counts_in_those_above),
		TEST(test_account_in_the_heap_is_its_own),
		TEST(test_account_of_an_ancestor_outlives_its_maker),
		TEST(test_account_is_used_again_later),
		TEST(test_account_that_is_overwritten),
		TEST(test_account_needs_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
