#include "wire/account.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "os/process.h"
#include "shared/heap.h"

/* The type of accounts in the heap, which differs from the types of handles. */
#define ACCOUNT_TYPE UINT32_C(0x746f6b6e)

/*
 * Time after which a retired account may be used again. The descendants of a
 * killed process, which count in its account, end within this time.
 */
#define ACCOUNT_REST_NS (2 * FZ_CLOCK_SECOND)

struct in_heap {
	struct fz_object object;
	struct fz_account account;
	_Atomic uint64_t above; /* name of the parent's account; 0: none */
};

_Static_assert(sizeof(struct in_heap) <= FZ_HEAP_SMALL, "a small object");

#define IN_HEAP(ptr) FZ_CONTAINER_OF(ptr, struct in_heap, account)

static uint64_t
name_of(const struct in_heap *a)
{
	return (uint64_t)a->object.generation << 32 | fz_heap_name(&a->object);
}

static void
begin(struct in_heap *a, uint64_t above)
{
	atomic_store(&a->account.held, 0);
	atomic_store(&a->account.shared, name_of(a));
	atomic_store(&a->above, above);
}

static struct in_heap *
new_in_heap(struct fz_membership *own, uint64_t above)
{
	struct in_heap *a =
	    fz_heap_new_quiet(own, ACCOUNT_TYPE, sizeof(*a), NULL);

	if (a != NULL)
		begin(a, above);
	return a;
}

struct fz_account *
fz_account_find(uint64_t name)
{
	struct fz_object *object = NULL;

	if (fz_heap_id() != UINT32_MAX)
		object = fz_heap_find(
		    (uint32_t)name, (uint32_t)(name >> 32), ACCOUNT_TYPE);
	return object != NULL ? &((struct in_heap *)(void *)object)->account
			      : NULL;
}

/*
 * The name of the heap account for `at`, which is made if there is none. An
 * ancestor's account is marked as sent, to outlive this process.
 */
static uint64_t
name_at(struct fz_membership *own, const struct fz_lineage *at)
{
	struct in_heap *a;
	uint64_t name;

	if (at == NULL)
		return 0;
	name = atomic_load(&at->account->shared);
	if (fz_account_find(name) != NULL)
		return name;
	a = new_in_heap(own, name_at(own, at->above));
	if (a == NULL)
		return 0;
	atomic_store(&a->object.sent, at->generation != fz_process.generation);
	if (atomic_compare_exchange_strong(
		&at->account->shared, &name, name_of(a)))
		return name_of(a);
	fz_heap_free(own, &a->object);
	return name;
}

/*
 * The account that was retired first. NULL: none was retired long enough ago.
 */
static struct fz_program_account *
used_again(struct fz_list *retired, uint64_t above)
{
	struct fz_list *oldest = fz_list_first(retired);
	struct fz_program_account *account;

	if (oldest == NULL)
		return NULL;
	account = FZ_CONTAINER_OF(oldest, struct fz_program_account, link);
	if (fz_clock_ns() - account->retired_ns < ACCOUNT_REST_NS)
		return NULL;
	fz_list_remove(oldest);
	if (fz_account_find(account->name) == account->account) {
		begin(IN_HEAP(account->account), above);
		return account;
	}
	/* a function has overwritten the account: do not use it again */
	free(account);
	return NULL;
}

struct fz_program_account *
fz_account_new(struct fz_membership *own, struct fz_list *retired,
    const struct fz_lineage *lineage)
{
	uint64_t above = name_at(own, lineage);
	struct fz_program_account *account = used_again(retired, above);
	struct in_heap *a;

	if (account != NULL)
		return account;
	account = calloc(1, sizeof(*account));
	a = account != NULL ? new_in_heap(own, above) : NULL;
	if (a == NULL) {
		free(account);
		return NULL;
	}
	account->account = &a->account;
	account->name = name_of(a);
	return account;
}

void
fz_account_share(struct fz_membership *own, const struct fz_lineage *lineage)
{
	if (fz_heap_has_quiet())
		name_at(own, lineage);
}

void
fz_account_retire(struct fz_list *retired, struct fz_program_account *account)
{
	if (account == NULL)
		return;
	account->retired_ns = fz_clock_ns();
	fz_list_push(retired, &account->link);
}

void
fz_account_forget(struct fz_list *retired)
{
	struct fz_list *first;

	while ((first = fz_list_first(retired)) != NULL) {
		fz_list_remove(first);
		free(FZ_CONTAINER_OF(first, struct fz_program_account, link));
	}
}

unsigned
fz_account_lineage(uint64_t name, struct fz_lineage *lineage, unsigned max)
{
	struct fz_account *account;
	unsigned n = 0;

	while (n < max && (account = fz_account_find(name)) != NULL) {
		lineage[n] = (struct fz_lineage){ .account = account };
		if (n > 0)
			lineage[n - 1].above = &lineage[n];
		name = atomic_load(&IN_HEAP(account)->above);
		n++;
	}
	return n;
}
