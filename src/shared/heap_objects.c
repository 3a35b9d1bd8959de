#include "shared/heap.h"

#include <string.h>

#include "base/clock.h"
#include "shared/heap_state.h"

uint32_t
fz_heap_name(const struct fz_object *object)
{
	return (uint32_t)(fz_ref_offset(object) / CELL);
}

/* What dead members owned is freed soon, even if no process joins. */
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
	return fz_heap_take_chunks(self, size, err);
}

/* A free cell in the chunk of this member; NULL: there is none. */
static struct fz_object *
free_cell(struct fz_membership *own)
{
	for (; own->cells != NULL && own->next_cell < NCELLS;
	     own->next_cell++) {
		struct fz_object *cell = cell_at(own->cells, own->next_cell);

		if (atomic_load(&cell->type) == 0)
			return cell;
	}
	return NULL;
}

static struct fz_object *
new_cell(struct fz_membership *own, struct fz_err *err)
{
	struct fz_object *cell = free_cell(own);
	unsigned char *chunk;

	if (cell != NULL)
		return cell;
	chunk = fz_heap_alloc(own->number, CHUNK, err);
	if (chunk == NULL)
		return NULL;
	memset(chunk, 0, CHUNK);
	atomic_store(
	    &heap->owners[chunk_number(chunk)], owner_word(CELLS, own->number));
	own->cells = chunk;
	own->next_cell = 0;
	return cell_at(chunk, 0);
}

void *
fz_heap_new(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err)
{
	struct fz_object *object;
	uint32_t self = fz_heap_join(own, err);

	if (self == 0)
		return NULL;
	if (size <= CELL) {
		object = new_cell(own, err);
		size = CELL;
	} else {
		object = fz_heap_alloc(self, size, err);
	}
	if (object == NULL)
		return NULL;
	memset(object, 0, size);
	object->generation = atomic_fetch_add(&heap_head()->generation, 1) + 1;
	object->maker = self;
	if (size > CELL)
		fz_heap_set_owner(object, object);
	atomic_store(&object->type, type);
	return object;
}

/* Free the chunks that an object owns beside its own: a queue's segments. */
static void
free_owned(uint32_t name, uint32_t own)
{
	uint32_t top = atomic_load(&heap_head()->top);

	for (uint32_t i = 0; i < top; i++) {
		uint64_t owner = atomic_load(&heap->owners[i]);

		if (owner_of(owner) == (OBJECT_BIT | name) && i != own)
			fz_heap_free_chunks(i, 1);
	}
}

/* Free the chunks that an object lies in. */
static void
free_object_chunks(const struct fz_object *object)
{
	uint32_t i = chunk_number(object);

	fz_heap_free_chunks(i, (uint32_t)atomic_load(&heap->owners[i]));
}

static void
free_cell_at(struct fz_membership *own, struct fz_object *object)
{
	unsigned char *chunk = chunk_at(chunk_number(object));
	size_t i = 0;

	if (chunk == own->cells) {
		size_t place =
		    ((size_t)((unsigned char *)object - chunk)) / CELL;

		if (place < own->next_cell)
			own->next_cell = place;
		return;
	}
	while (i < NCELLS && atomic_load(&cell_at(chunk, i)->type) == 0)
		i++;
	if (i == NCELLS)
		fz_heap_free_chunks(chunk_number(object), 1);
}

void
fz_heap_free(struct fz_membership *own, struct fz_object *object)
{
	uint32_t i = chunk_number(object);

	atomic_store(&object->type, 0);
	if (atomic_load(&object->owns))
		free_owned(fz_heap_name(object), i);
	if (owner_of(atomic_load(&heap->owners[i])) == CELLS)
		free_cell_at(own, object);
	else
		free_object_chunks(object);
}

struct fz_object *
fz_heap_find(uint32_t name, uint32_t generation, uint32_t type)
{
	uint64_t offset = (uint64_t)name * CELL;
	struct fz_object *object = fz_ref_at(offset);

	if (heap->base == NULL || offset == 0 || offset > heap->size - CELL ||
	    (unsigned char *)object < heap->chunks ||
	    chunk_number(object) >= atomic_load(&heap_head()->top) ||
	    is_free(atomic_load(&heap->owners[chunk_number(object)])))
		return NULL;
	return atomic_load(&object->type) == type &&
		       object->generation == generation
		   ? object
		   : NULL;
}
