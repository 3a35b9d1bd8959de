/* madvise and MAP_ANONYMOUS are Linux. */
#define _GNU_SOURCE
#include "os/slab.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/container.h"
#include "base/list.h"

#define SPAN_SIZE ((size_t)64 << 10)
enum { REGION_SPANS = FZ_SLAB_REGION / SPAN_SIZE };
#define ALL_SPANS UINT32_MAX
_Static_assert(REGION_SPANS == 32, "a bit of uint32_t for each span");

/* Bytes of new blocks that are linked at once: one page. */
enum { SPAN_STEP = 4096 };

/*
 * Minimum number of regions with which a process uses huge pages: a small
 * script needs none.
 */
enum { REGIONS_PLAIN = 4 };

/* Number of empty spans that a process keeps, unless more are in use. */
enum { IDLE_SPANS = (32 << 20) / SPAN_SIZE };

struct span {
	/* free blocks that are not in the list of the class */
	struct fz_slab_block *free;
	/* number of blocks that are used or in `free` */
	uint32_t linked;
	uint32_t used; /* number of blocks that are not in `free` */
	/* generation in which the span is in a list; 0: in none */
	uint32_t listed;
	uint32_t fresh; /* offset of the bytes that were never linked */
	uint32_t taken; /* generation in which the span got its class */
	uint32_t size;  /* bytes of a block */
	uint32_t class;
	struct fz_list link; /* in the list of its class */
};

struct region {
	struct fz_list link; /* in `open_regions` */
	/* generation in which the region is in `open_regions`, or 0 */
	uint32_t listed;
	uint32_t empty; /* a bit for each span: it has no class */
	uint32_t idle;  /* a bit for each empty span: memory kept */
	struct span spans[REGION_SPANS];
};

/* Offset of the first block after the header of a region. */
#define FIRST_OFFSET                                             \
	((uint32_t)((sizeof(struct region) + FZ_SLAB_UNIT - 1) & \
		    ~(size_t)(FZ_SLAB_UNIT - 1)))

struct class
{
	/* the span whose free blocks are in fz_slab_lists; or NULL */
	struct span *current;
	struct fz_list spans; /* other spans with free blocks */
};

/* Sixteen classes of one unit each, then twelve of four units. */
#define FOUR(class) class, class, class, class
const unsigned char fz_slab_class_of[FZ_SLAB_MAX / FZ_SLAB_UNIT + 1] = { 0, 0,
	1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, FOUR(16), FOUR(17),
	FOUR(18), FOUR(19), FOUR(20), FOUR(21), FOUR(22), FOUR(23), FOUR(24),
	FOUR(25), FOUR(26), FOUR(27) };

struct fz_slab_block *fz_slab_lists[FZ_SLAB_CLASSES];

/*
 * Before the first region the list heads are all zero, which is an empty list,
 * too.
 */
static struct class classes[FZ_SLAB_CLASSES];
static struct fz_list open_regions; /* regions with empty spans */
static uint32_t generation = 1;     /* incremented in each forked child */
/* number of regions that this process has made */
static uint32_t nregions;
static uint32_t nused; /* number of spans that are in use in this process */
static uint32_t nidle; /* number of spans that are idle in this process */

static uint32_t
size_of(unsigned class)
{
	return class < 16 ? (class + 1) * FZ_SLAB_UNIT
			  : (class - 16 + 5) * 4 * FZ_SLAB_UNIT;
}

static struct region *
region_of(const void *at)
{
	return (struct region *)((uintptr_t)at & ~(FZ_SLAB_REGION - 1));
}

static struct span *
span_of(const void *block)
{
	size_t offset = (uintptr_t)block & (FZ_SLAB_REGION - 1);

	return &region_of(block)->spans[offset / SPAN_SIZE];
}

static char *
span_start(struct span *span)
{
	struct region *region = region_of(span);

	return (char *)region + (size_t)(span - region->spans) * SPAN_SIZE;
}

static void
list_region(struct region *region)
{
	fz_list_push(&open_regions, &region->link);
	region->listed = generation;
}

static void
unlist_region(struct region *region)
{
	fz_list_remove(&region->link);
	region->listed = 0;
}

static void
list_span(struct span *span)
{
	fz_list_push(&classes[span->class].spans, &span->link);
	span->listed = generation;
}

static void
init_lists(void)
{
	for (unsigned i = 0; i < FZ_SLAB_CLASSES; i++) {
		classes[i].current = NULL;
		fz_list_init(&classes[i].spans);
		fz_slab_lists[i] = NULL;
	}
	fz_list_init(&open_regions);
}

/* In a child: forget all spans, because each write to one copies a page. */
static void
in_child(void)
{
	init_lists();
	generation++;
	nregions = nused = nidle = 0;
}

/* Without the fork handler the writes of a child would copy shared pages. */
static bool
watch_forks(void)
{
	static int rc = -1;

	if (rc != 0 && (rc = pthread_atfork(NULL, NULL, in_child)) == 0)
		init_lists();
	return rc == 0;
}

static void *
map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at != MAP_FAILED ? at : NULL;
}

/*
 * Map one region, aligned to its size; if need be, cut it out of a larger
 * mapping.
 */
static void *
map_region(void)
{
	char *at = map(FZ_SLAB_REGION);
	size_t before;

	if (at == NULL || (uintptr_t)at % FZ_SLAB_REGION == 0)
		return at;
	munmap(at, FZ_SLAB_REGION);
	at = map(2 * FZ_SLAB_REGION);
	if (at == NULL)
		return NULL;
	before = FZ_SLAB_REGION - (uintptr_t)at % FZ_SLAB_REGION;
	munmap(at, before);
	at += before;
	if (before != FZ_SLAB_REGION)
		munmap(at + FZ_SLAB_REGION, FZ_SLAB_REGION - before);
	return at;
}

static struct region *
region_new(void)
{
	struct region *region = watch_forks() ? map_region() : NULL;

	if (region == NULL)
		return NULL;
	madvise(region, FZ_SLAB_REGION,
	    nregions < REGIONS_PLAIN ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	nregions++;
	region->empty = ALL_SPANS;
	list_region(region);
	return region;
}

/* Return the idle memory of a listed region; unmap an empty region. */
static void
trim_region(struct region *region)
{
	nidle -= (uint32_t)__builtin_popcount(region->idle);
	if (region->empty == ALL_SPANS) {
		unlist_region(region);
		munmap(region, FZ_SLAB_REGION);
		nregions -= nregions != 0;
		return;
	}
	for (unsigned i = 1; i < REGION_SPANS; i++) {
		if (region->idle >> i & 1)
			madvise((char *)region + i * SPAN_SIZE, SPAN_SIZE,
			    MADV_DONTNEED);
	}
	region->idle = 0; /* the first span has the header and stays */
}

static void
trim_until(uint32_t most)
{
	struct fz_list *older;

	for (struct fz_list *link = open_regions.prev;
	     nidle > most && link != &open_regions; link = older) {
		older = link->prev;
		if (region_of(link)->idle != 0)
			trim_region(region_of(link));
	}
}

static struct span *
span_new(unsigned class)
{
	const struct fz_list *youngest = fz_list_last(&open_regions);
	struct region *region = youngest ? region_of(youngest) : region_new();
	struct span *span;
	unsigned i;

	if (region == NULL)
		return NULL;
	i = (unsigned)__builtin_ctz(
	    region->idle != 0 ? region->idle : region->empty);
	nidle -= region->idle >> i & 1;
	nused++;
	region->idle &= ~((uint32_t)1 << i);
	region->empty &= ~((uint32_t)1 << i);
	if (region->empty == 0)
		unlist_region(region);
	span = &region->spans[i];
	span->free = NULL;
	span->used = span->linked = 0;
	span->listed = span->taken = generation;
	span->fresh = i == 0 ? FIRST_OFFSET : 0;
	span->size = size_of(class);
	span->class = class;
	return span;
}

/* Free a span whose last block was freed and that is not current. */
static void
span_free(struct span *span)
{
	struct region *region = region_of(span);
	uint32_t bit = (uint32_t)1 << (span - region->spans);

	span->listed = 0;
	if (region->listed != generation) {
		region->idle = 0; /* the parent owns its idle spans */
		list_region(region);
	}
	region->empty |= bit;
	region->idle |= bit;
	nidle++;
	nused -= span->taken == generation;
	if (nidle > IDLE_SPANS && nidle > nused)
		trim_until(nidle / 2);
}

/* Link the blocks of the next unused page. */
static struct fz_slab_block *
link_fresh(struct span *span)
{
	char *start = span_start(span);
	uint32_t end = span->fresh + SPAN_STEP;
	struct fz_slab_block *first, *last;

	if (end > SPAN_SIZE)
		end = SPAN_SIZE;
	if (end - span->fresh < span->size)
		return NULL;
	first = last = (struct fz_slab_block *)(start + span->fresh);
	span->linked++;
	for (span->fresh += span->size; span->fresh + span->size <= end;
	     span->fresh += span->size) {
		last->next = (struct fz_slab_block *)(start + span->fresh);
		last = last->next;
		span->linked++;
	}
	last->next = NULL;
	return first;
}

/* Take the free blocks of a span for the list of its class. NULL: none. */
static struct fz_slab_block *
take_blocks(struct span *span)
{
	struct fz_slab_block *blocks = span->free;

	if (blocks == NULL)
		blocks = link_fresh(span);
	span->free = NULL;
	span->used = span->linked;
	return blocks;
}

/*
 * For a class without spans: take a block of a class whose blocks are somewhat
 * larger, so that a process with few blocks has fewer pages that are nearly
 * empty. NULL if that class needs a new page, too. fz_slab_free() finds the
 * class by the span.
 */
static struct fz_slab_block *
borrow(unsigned number)
{
	unsigned larger = number < 16 ? number | 1 : number | 3;
	struct fz_slab_block *block = fz_slab_lists[larger];

	if (larger == number)
		return NULL;
	if (block == NULL)
		return classes[larger].current == NULL ? fz_slab_refill(larger)
						       : NULL;
	fz_slab_lists[larger] = block->next;
	return block;
}

void *
fz_slab_refill(unsigned number)
{
	struct class *class = &classes[number];
	struct fz_slab_block *block = NULL;
	struct fz_list *oldest;

	if (class->current == NULL && fz_list_first(&class->spans) == NULL &&
	    (block = borrow(number)) != NULL)
		return block;
	while (class->current == NULL ||
	       (block = take_blocks(class->current)) == NULL) {
		if (class->current != NULL)
			/* the current span is full */
			class->current->listed = 0;
		oldest = fz_list_first(&class->spans);
		class->current =
		    oldest != NULL ? FZ_CONTAINER_OF(oldest, struct span, link)
				   : span_new(number);
		if (class->current == NULL)
			return NULL;
		fz_list_remove(&class->current->link);
	}
	fz_slab_lists[number] = block->next;
	return block;
}

/*
 * Called after a block of a span was freed, if the span is empty, was full, or
 * was inherited: list or release the span.
 */
static void
span_freed(struct span *span, struct fz_slab_block *block)
{
	struct class *class = &classes[span->class];

	if (span->listed != generation) {
		/*
		 * reuse only this block: other blocks may be on pages shared
		 * with the parent
		 */
		block->next = NULL;
		span->free = block;
		span->linked = span->used + 1;
		list_span(span);
	}
	if (span->used != 0 || span == class->current)
		return;
	fz_list_remove(&span->link);
	span_free(span);
}

void
fz_slab_free(void *at)
{
	struct span *span = span_of(at);
	struct fz_slab_block *block = at;

	block->next = span->free;
	span->free = block;
	span->used--;
	if (__builtin_expect(span->listed != generation || span->used == 0, 0))
		span_freed(span, block);
}

size_t
fz_slab_room(size_t size)
{
	return size_of(fz_slab_class(size));
}

void
fz_slab_trim(void)
{
	trim_until(0);
}

size_t
fz_slab_idle(void)
{
	return nidle * SPAN_SIZE;
}
