#include "shared/heap.h"

#include <string.h>

#include "base/clock.h"
#include "shared/heap_state.h"

uint32_t
fz_heap_id(void)
{
	return heap->base != NULL ? heap_head()->id : UINT32_MAX;
}

uint32_t
fz_heap_name(const struct fz_object *object)
{
	return (uint32_t)(fz_ref_offset(object) / SMALL_SIZE);
}

/*
 * Free what dead members owned, at most once per second. Without this, that
 * happens only when another process joins.
 */
static void
reclaim_sometimes(void)
{
	int64_t now = fz_clock_ns(), at = atomic_load(&heap->reclaim_ns);

	if (now >= at && atomic_compare_exchange_strong(
			     &heap->reclaim_ns, &at, now + FZ_CLOCK_SECOND))
		fz_heap_reclaim();
}

void *
fz_heap_alloc(uint32_t self, size_t size, struct fz_err *err)
{
	reclaim_sometimes();
	return fz_heap_take_blocks(self, size, err);
}

/* A free small object in this member's block. NULL if there is none. */
static struct fz_object *
find_small(struct fz_membership *own)
{
	for (; own->small != NULL && own->next_small < NSMALL;
	     own->next_small++) {
		struct fz_object *object =
		    small_at(own->small, own->next_small);

		if (atomic_load(&object->type) == 0)
			return object;
	}
	return NULL;
}

static struct fz_object *
new_small(struct fz_membership *own, struct fz_err *err)
{
	struct fz_object *object = find_small(own);
	unsigned char *block;

	if (object != NULL)
		return object;
	block = fz_heap_alloc(own->owner, BLOCK, err);
	if (block == NULL)
		return NULL;
	memset(block, 0, BLOCK);
	atomic_store(
	    &heap->owners[block_number(block)], owner_word(SMALL, own->owner));
	own->small = block;
	own->next_small = 0;
	return small_at(block, 0);
}

/* Create an object for this instance. `self` is its member number. */
static void *
new_object(struct fz_membership *own, uint32_t self, uint32_t type, size_t size,
    struct fz_err *err)
{
	struct fz_object *object;

	if (size <= SMALL_SIZE) {
		object = new_small(own, err);
		size = SMALL_SIZE;
	} else {
		object = fz_heap_alloc(self, size, err);
	}
	if (object == NULL)
		return NULL;
	memset(object, 0, size);
	object->generation = atomic_fetch_add(&heap_head()->generation, 1) + 1;
	object->maker = self;
	if (size > SMALL_SIZE)
		fz_heap_set_owner(object, object);
	atomic_store(&object->type, type);
	return object;
}

void *
fz_heap_new(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err)
{
	uint32_t self = fz_heap_join(own, err);

	return self != 0 ? new_object(own, self, type, size, err) : NULL;
}

void *
fz_heap_new_quiet(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err)
{
	uint32_t self = fz_heap_enter(own, err);

	if (self == 0)
		return NULL;
	atomic_store(&heap_head()->has_quiet, true);
	return new_object(own, self, type, size, err);
}

bool
fz_heap_has_quiet(void)
{
	return heap->base != NULL && atomic_load(&heap_head()->has_quiet);
}

/* Free the other blocks of an object, such as the segments of a queue. */
static void
free_owned(uint32_t name, uint32_t own)
{
	uint32_t top = atomic_load(&heap_head()->top);

	for (uint32_t i = 0; i < top; i++) {
		uint64_t owner = atomic_load(&heap->owners[i]);

		if (owner_of(owner) == (OBJECT_BIT | name) && i != own)
			fz_heap_free_blocks(i, 1);
	}
}

/* Free the blocks that contain the object. */
static void
free_object_blocks(const struct fz_object *object)
{
	uint32_t i = block_number(object);

	fz_heap_free_blocks(i, (uint32_t)atomic_load(&heap->owners[i]));
}

static void
free_small(struct fz_membership *own, struct fz_object *object)
{
	unsigned char *block = block_at(block_number(object));
	size_t i = 0;

	if (block == own->small) {
		size_t index =
		    ((size_t)((unsigned char *)object - block)) / SMALL_SIZE;

		if (index < own->next_small)
			own->next_small = index;
		return;
	}
	while (i < NSMALL && atomic_load(&small_at(block, i)->type) == 0)
		i++;
	if (i == NSMALL)
		fz_heap_free_blocks(block_number(object), 1);
}

void
fz_heap_free(struct fz_membership *own, struct fz_object *object)
{
	uint32_t i = block_number(object);

	atomic_store(&object->type, 0);
	if (atomic_load(&object->owns))
		free_owned(fz_heap_name(object), i);
	if (owner_of(atomic_load(&heap->owners[i])) == SMALL)
		free_small(own, object);
	else
		free_object_blocks(object);
}

struct fz_object *
fz_heap_find(uint32_t name, uint32_t generation, uint32_t type)
{
	uint64_t offset = (uint64_t)name * SMALL_SIZE;
	struct fz_object *object = fz_ref_at(offset);

	if (heap->base == NULL || offset == 0 ||
	    offset > heap->size - SMALL_SIZE ||
	    (unsigned char *)object < heap->blocks ||
	    block_number(object) >= atomic_load(&heap_head()->top) ||
	    is_free(atomic_load(&heap->owners[block_number(object)])))
		return NULL;
	return atomic_load(&object->type) == type &&
		       object->generation == generation
		   ? object
		   : NULL;
}
