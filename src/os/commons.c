/* memfd_create, fallocate and robust mutexes are no part of C. */
#define _GNU_SOURCE
#include "os/commons.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/fd.h"

/*
 *   region     head | owners of chunks | chunk 0 | chunk 1 | ...
 *   owner      32 bits whose, 32 bits how many chunks from here on; 0 where
 *              another before it says so. Freed from the end, each by itself,
 *              since the process may be killed in between.
 *   whose      COLD nobody's, without memory; WARM nobody's, with it; a member;
 *              CELLS, then its maker in the lower 32 bits; bit 31 and the name
 *              of an object
 *   member     generation 19 bits | place 12 bits
 *   name       offset / CELL: that of the cell, or of the object's first chunk
 */
#define CHUNK FZ_COMMONS_CHUNK
#define CELL ((size_t)256)
#define OBJECT_BIT UINT32_C(0x80000000)
#define COLD UINT32_C(0)
#define WARM UINT32_C(0x7fffffff)
#define CELLS UINT32_C(0x7ffffffe)
#define GENERATIONS UINT32_C(0x7fffe) /* of members: they are below those */
/* What a process that was killed had started ends a moment after it. */
#define SWEEP_AFTER_NS FZ_CLOCK_SECOND
#define MAGIC UINT32_C(0x6f6d6d63)

enum {
	PLACE_BITS = 12,
	NCELLS = (64 << 10) / 256,
	WARM_MAX = (256 << 20) / (64 << 10), /* chunks kept with their memory */
};

struct member {
	pthread_mutex_t life; /* held by the member as long as it lives */
	struct fz_commons_wait wait;
	uint32_t generation;
	int64_t dead_ns; /* when somebody saw that it is; 0: nobody has */
};

struct head {
	uint32_t magic;
	uint32_t nchunks;
	pthread_mutex_t joining;
	_Atomic uint32_t nplaces;
	_Atomic uint32_t top;   /* no chunk from here on was ever used */
	_Atomic uint32_t nwarm; /* about */
	_Atomic uint32_t nused;
	_Atomic uint32_t generation; /* of objects */
	struct member members[FZ_COMMONS_MEMBERS];
};

/* The same in every process of the run, but for the last two. */
static struct {
	struct head *head; /* NULL: not open */
	_Atomic uint64_t *owners;
	unsigned char *chunks;
	size_t size;
	int fd, bell;
	uint32_t self;        /* 0: no member */
	unsigned char *cells; /* the own chunk of these; NULL: none */
	size_t next_cell;     /* the first of it that may be free */
	struct fz_object *dropped;
	unsigned nholders;
} commons = { .fd = -1, .bell = -1 };

static uint64_t
owner_word(uint32_t whose, uint32_t n)
{
	return (uint64_t)whose << 32 | n;
}

static uint32_t
whose(uint64_t owner)
{
	return (uint32_t)(owner >> 32);
}

static struct member *
member_at(uint32_t place)
{
	return &commons.head->members[place];
}

/* ---- the region ------------------------------------------------------------
 */

static size_t
head_size(uint32_t nchunks)
{
	size_t n = sizeof(struct head) + nchunks * sizeof(uint64_t);

	return (n + CHUNK - 1) & ~(CHUNK - 1);
}

/* Twice what the machine has: some of it is mostly free. */
static size_t
wanted_size(void)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
	uint64_t size = 2 * pages * (uint64_t)sysconf(_SC_PAGESIZE);

	if (size < (uint64_t)1 << 32)
		size = (uint64_t)1 << 32;
	if (size > (uint64_t)1 << 38) /* a name has 31 bits */
		size = (uint64_t)1 << 38;
	return (size_t)(size & ~(uint64_t)(CHUNK - 1));
}

/* Less where address space is short. */
static void *
map_region(int fd, size_t *size)
{
	void *at = MAP_FAILED;

	for (; *size >= (size_t)64 << 20; *size /= 2) {
		if (ftruncate(fd, (off_t)*size) == -1)
			continue;
		at = mmap(NULL, *size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_NORESERVE, fd, 0);
		if (at != MAP_FAILED)
			break;
	}
	return at;
}

/* Memory for a part of it, so that touching it cannot fail. 0 or -1, errno. */
static int
reserve(const void *at, size_t len)
{
	size_t offset =
	    (size_t)((const unsigned char *)at - (unsigned char *)commons.head);
	int rc;

	do
		rc = fallocate(commons.fd, 0, (off_t)offset, (off_t)len);
	while (rc == -1 && errno == EINTR);
	return rc;
}

/* What it was to its parent it is no more. */
static void
in_child(void)
{
	commons.self = 0;
	commons.cells = NULL;
	commons.dropped = NULL;
}

static int
init_robust(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int code = pthread_mutexattr_init(&attr);

	if (code != 0)
		return code;
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	code = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return code;
}

static void
close_region(void)
{
	if (commons.head != NULL)
		munmap(commons.head, commons.size);
	commons.head = NULL;
	fz_fd_close(&commons.bell);
	fz_fd_close(&commons.fd);
}

static int
init_region(struct fz_err *err)
{
	static bool hooked;
	struct head *head = commons.head;
	size_t room = commons.size;
	int code;

	head->nchunks =
	    (uint32_t)((room - head_size((uint32_t)(room / CHUNK))) / CHUNK);
	commons.owners = (_Atomic uint64_t *)(head + 1);
	commons.chunks =
	    (unsigned char *)head + head_size((uint32_t)(room / CHUNK));
	code = init_robust(&head->joining);
	if (code == 0 && !hooked)
		code = pthread_atfork(NULL, NULL, in_child);
	if (code != 0)
		return fz_err_sys(err, code, "cannot set up shared memory");
	hooked = true;
	head->magic = MAGIC;
	return 0;
}

int
fz_commons_open(struct fz_err *err)
{
	struct rlimit limit;
	void *at;

	if (commons.head != NULL)
		return 0;
	/* Growing a file beyond the limit is a signal, not an error. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == -1 ||
	    limit.rlim_cur != RLIM_INFINITY)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no shared memory under a file size limit");
	commons.size = wanted_size();
	commons.fd = memfd_create("fzlua-commons", MFD_CLOEXEC);
	commons.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (commons.fd == -1 || commons.bell == -1) {
		fz_err_sys(err, errno, "cannot make shared memory");
		close_region();
		return -1;
	}
	if (fz_fd_clear_standard(&commons.fd, err) != 0 ||
	    fz_fd_clear_standard(&commons.bell, err) != 0) {
		close_region();
		return -1;
	}
	at = map_region(commons.fd, &commons.size);
	if (at == MAP_FAILED) {
		fz_err_sys(err, errno, "cannot map shared memory");
		close_region();
		return -1;
	}
	commons.head = at;
	madvise(at, commons.size, MADV_DONTDUMP);
	if (reserve(at, offsetof(struct head, members)) == 0) {
		if (init_region(err) == 0)
			return 0;
	} else {
		fz_err_sys(err, errno, "no memory to share");
	}
	close_region();
	return -1;
}

void
fz_commons_hold(void)
{
	commons.nholders++;
}

void
fz_commons_let_go(void)
{
	if (--commons.nholders != 0 || commons.head == NULL)
		return;
	/* It must not be in the list of what this thread holds. */
	if (commons.self != 0)
		pthread_mutex_unlock(
		    &member_at(fz_commons_place(commons.self))->life);
	in_child();
	close_region();
}

int
fz_commons_bell(void)
{
	return commons.bell;
}

void
fz_commons_ring(void)
{
	uint64_t one = 1;
	ssize_t n;

	if (commons.bell == -1)
		return;
	do
		n = write(commons.bell, &one, sizeof(one));
	while (n == -1 && errno == EINTR);
}

/* ---- chunks ----------------------------------------------------------------
 */

static uint32_t
chunk_number(const void *at)
{
	return (uint32_t)((size_t)((const unsigned char *)at - commons.chunks) /
			  CHUNK);
}

static unsigned char *
chunk_at(uint32_t i)
{
	return commons.chunks + (size_t)i * CHUNK;
}

static bool
is_free(uint64_t owner)
{
	return whose(owner) == COLD || whose(owner) == WARM;
}

/* From the end, so that what a killed process leaves says whose it is. */
static void
free_chunks(uint32_t i, uint32_t n)
{
	struct head *head = commons.head;
	uint32_t state = WARM;

	if (atomic_load(&head->nwarm) + n > WARM_MAX &&
	    fallocate(commons.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)(chunk_at(i) - (unsigned char *)head),
		(off_t)(n * CHUNK)) == 0)
		state = COLD;
	if (state == WARM)
		atomic_fetch_add(&head->nwarm, n);
	atomic_fetch_sub(&head->nused, n);
	while (n-- > 0)
		atomic_store(&commons.owners[i + n], owner_word(state, 0));
}

/* Claim chunk `i` if it is free; then `*cold` says whether it has no memory. */
static bool
claim_chunk(uint32_t i, bool *cold)
{
	struct head *head = commons.head;
	uint64_t before = atomic_load(&commons.owners[i]);

	if (!is_free(before) ||
	    !atomic_compare_exchange_strong(
		&commons.owners[i], &before, owner_word(commons.self, 0)))
		return false;
	atomic_fetch_add(&head->nused, 1);
	if (whose(before) == WARM)
		atomic_fetch_sub(&head->nwarm, 1);
	else
		*cold = true;
	return true;
}

static void
raise_top(uint32_t top)
{
	uint32_t before = atomic_load(&commons.head->top);

	while (before < top &&
	       !atomic_compare_exchange_weak(&commons.head->top, &before, top))
		continue;
}

/* Claim `n` chunks from `i` on, with memory. 1, 0 where not all are free, -1 */
static int
claim_row(uint32_t i, uint32_t n, uint32_t *got)
{
	bool cold = false;

	raise_top(i + n);
	for (*got = 0; *got < n && claim_chunk(i + *got, &cold); ++*got)
		continue;
	if (*got == n && (!cold || reserve(chunk_at(i), n * CHUNK) == 0))
		return 1;
	free_chunks(i, *got);
	return *got == n ? -1 : 0;
}

/* How many free ones begin at `i`, at most `n`. */
static uint32_t
free_row(uint32_t i, uint32_t n)
{
	uint32_t k = 0;

	while (k < n && is_free(atomic_load(&commons.owners[i + k])))
		k++;
	return k;
}

static int
take_row(uint32_t n, uint32_t *at)
{
	uint32_t i = 0, got = 0, end = commons.head->nchunks;

	while (n <= end && i <= end - n) {
		uint32_t k = free_row(i, n);
		int rc = 0;

		if (k == n)
			rc = claim_row(i, n, &got);
		if (rc == 1) {
			*at = i;
			return 0;
		}
		if (rc == -1)
			return -1;
		i += k == n ? got + 1 : k + 1;
	}
	errno = ENOMEM;
	return -1;
}

static struct fz_object *
cell_at(unsigned char *chunk, size_t i)
{
	return (struct fz_object *)(chunk + i * CELL);
}

/* The object that owns a chunk, NULL where none does. */
static const struct fz_object *
owner_object(uint64_t owner)
{
	if (!(whose(owner) & OBJECT_BIT))
		return NULL;
	return fz_commons_at((uint64_t)(whose(owner) & ~OBJECT_BIT) * CELL);
}

/* ---- members --------------------------------------------------------------
 */

uint32_t
fz_commons_place(uint32_t member)
{
	return member & (FZ_COMMONS_MEMBERS - 1);
}

uint32_t
fz_commons_nplaces(void)
{
	return commons.head != NULL ? atomic_load(&commons.head->nplaces) : 0;
}

struct fz_commons_wait *
fz_commons_wait(uint32_t place)
{
	return &member_at(place)->wait;
}

/* Lock one whose last owner may be dead: what it guards is always whole. */
static int
lock_robust(pthread_mutex_t *mutex, bool wait)
{
	int code =
	    wait ? pthread_mutex_lock(mutex) : pthread_mutex_trylock(mutex);

	if (code == EOWNERDEAD)
		code = pthread_mutex_consistent(mutex);
	return code;
}

bool
fz_commons_alive(uint32_t member)
{
	struct member *m;

	if (member == 0 || commons.head == NULL)
		return false;
	if (member == commons.self)
		return true;
	m = member_at(fz_commons_place(member));
	if (atomic_load(&m->wait.member) != member)
		return false;
	if (lock_robust(&m->life, false) != 0)
		return true;
	pthread_mutex_unlock(&m->life);
	/* Between the two looks the place may have got another member. */
	return false;
}

/* Whether an object can be freed, since nobody can come to have it any more. */
static bool
is_left(const struct fz_object *object, uint32_t maker)
{
	return object->maker == maker && !atomic_load(&object->sent);
}

/* Free a dead member's objects in a chunk of cells, and the chunk. */
static void
sweep_cells(uint32_t i, uint32_t member)
{
	bool used = false;

	for (size_t k = 0; k < NCELLS; k++) {
		struct fz_object *object = cell_at(chunk_at(i), k);

		if (is_left(object, member))
			atomic_store(&object->type, 0);
		used = used || atomic_load(&object->type) != 0;
	}
	if (!used)
		free_chunks(i, 1);
}

/*
 * Free what a dead member owned: what it had taken, and was about to free, and
 * the objects that it had not sent. Those last that own other chunks.
 */
static void
sweep(uint32_t member)
{
	uint32_t top = atomic_load(&commons.head->top);

	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < top; i++) {
			uint64_t owner = atomic_load(&commons.owners[i]);
			const struct fz_object *object = owner_object(owner);

			if (whose(owner) == member)
				free_chunks(i, 1);
			else if (owner == owner_word(CELLS, member))
				sweep_cells(i, member);
			else if (object != NULL && is_left(object, member) &&
				 (pass == 1 || chunk_number(object) != i))
				free_chunks(i, 1);
		}
	}
}

/* Whether the place of a dead member, taken, can be another's. */
static bool
is_over(struct member *m)
{
	int64_t now = fz_clock_ns();

	if (atomic_load(&m->wait.member) == 0)
		return true;
	if (m->dead_ns == 0)
		m->dead_ns = now;
	return now - m->dead_ns >= SWEEP_AFTER_NS;
}

/* A place whose member is dead, taken; NULL: there is none. */
static struct member *
dead_place(uint32_t *place)
{
	uint32_t n = fz_commons_nplaces();

	for (uint32_t i = 0; i < n; i++) {
		struct member *m = member_at(i);

		if (lock_robust(&m->life, false) != 0)
			continue;
		if (!is_over(m)) {
			pthread_mutex_unlock(&m->life);
			continue;
		}
		if (atomic_load(&m->wait.member) != 0)
			sweep(atomic_load(&m->wait.member));
		atomic_store(&m->wait.member, 0);
		*place = i;
		return m;
	}
	return NULL;
}

static struct member *
new_place(uint32_t *place, struct fz_err *err)
{
	uint32_t n = fz_commons_nplaces();
	struct member *m = member_at(n);
	int code;

	if (n == FZ_COMMONS_MEMBERS) {
		fz_err_set(err, FZ_ERR_ERROR,
		    "more than %d processes at once share something", (int)n);
		return NULL;
	}
	code = reserve(m, sizeof(*m)) == 0 ? init_robust(&m->life) : errno;
	if (code == 0)
		code = lock_robust(&m->life, false);
	if (code != 0) {
		fz_err_sys(err, code, "cannot share with other processes");
		return NULL;
	}
	atomic_store(&commons.head->nplaces, n + 1);
	*place = n;
	return m;
}

static uint32_t
join(struct fz_err *err)
{
	struct head *head = commons.head;
	uint32_t place = 0;
	struct member *m;
	int code = lock_robust(&head->joining, true);

	if (code != 0) {
		fz_err_sys(err, code, "cannot share with other processes");
		return 0;
	}
	m = dead_place(&place);
	if (m == NULL)
		m = new_place(&place, err);
	if (m != NULL) {
		m->generation = m->generation % (GENERATIONS - 1) + 1;
		commons.self = m->generation << PLACE_BITS | place;
		m->dead_ns = 0;
		atomic_store(&m->wait.what, 0);
		atomic_store(&m->wait.member, commons.self);
	}
	pthread_mutex_unlock(&head->joining);
	return m != NULL ? commons.self : 0;
}

uint32_t
fz_commons_self(struct fz_err *err)
{
	if (commons.self != 0)
		return commons.self;
	if (fz_commons_open(err) != 0)
		return 0;
	return join(err);
}

/* ---- taking chunks ------------------------------------------------------- */

static void
sweep_dead(void)
{
	uint32_t n = fz_commons_nplaces();

	for (uint32_t i = 0; i < n; i++) {
		uint32_t member = atomic_load(&member_at(i)->wait.member);

		if (member != 0 && !fz_commons_alive(member))
			sweep(member);
	}
}

void *
fz_commons_take(size_t size, struct fz_err *err)
{
	uint32_t n, i = 0;

	if (fz_commons_self(err) == 0)
		return NULL;
	if (size > commons.size) {
		fz_err_nomem(err, "something shared");
		return NULL;
	}
	n = (uint32_t)((size + CHUNK - 1) / CHUNK);
	if (n == 0)
		n = 1;
	if (take_row(n, &i) != 0) {
		sweep_dead();
		if (take_row(n, &i) != 0) {
			fz_err_sys(
			    err, errno, "no memory for something shared");
			return NULL;
		}
	}
	atomic_store(&commons.owners[i], owner_word(commons.self, n));
	return chunk_at(i);
}

static uint32_t
chunk_count(const void *chunks)
{
	return (uint32_t)atomic_load(&commons.owners[chunk_number(chunks)]);
}

void
fz_commons_own(void *chunks, const struct fz_object *object)
{
	uint32_t i = chunk_number(chunks), n = chunk_count(chunks);
	uint32_t owner = object != NULL ? OBJECT_BIT | fz_commons_name(object)
					: commons.self;

	for (uint32_t k = 0; k < n; k++)
		atomic_store(
		    &commons.owners[i + k], owner_word(owner, k == 0 ? n : 0));
}

void
fz_commons_trim(void *chunks, size_t size)
{
	uint32_t i = chunk_number(chunks), n = chunk_count(chunks);
	uint32_t keep = (uint32_t)((size + CHUNK - 1) / CHUNK);

	if (keep == 0)
		keep = 1;
	if (keep >= n)
		return;
	atomic_store(&commons.owners[i], owner_word(commons.self, keep));
	free_chunks(i + keep, n - keep);
}

void
fz_commons_give(void *chunks)
{
	free_chunks(chunk_number(chunks), chunk_count(chunks));
}

size_t
fz_commons_room(const void *chunks)
{
	return chunk_count(chunks) * CHUNK;
}

uint64_t
fz_commons_offset(const void *at)
{
	return (uint64_t)((const unsigned char *)at -
			  (unsigned char *)commons.head);
}

void *
fz_commons_at(uint64_t offset)
{
	return offset != 0 ? (unsigned char *)commons.head + offset : NULL;
}

size_t
fz_commons_used(void)
{
	return commons.head != NULL ? atomic_load(&commons.head->nused) * CHUNK
				    : 0;
}

/* ---- objects ----------------------------------------------------------------
 */

uint32_t
fz_commons_name(const struct fz_object *object)
{
	return (uint32_t)(fz_commons_offset(object) / CELL);
}

/* In the own chunk of cells; NULL: there is none. */
static struct fz_object *
free_cell(void)
{
	for (; commons.cells != NULL && commons.next_cell < NCELLS;
	     commons.next_cell++) {
		struct fz_object *cell =
		    cell_at(commons.cells, commons.next_cell);

		if (atomic_load(&cell->type) == 0)
			return cell;
	}
	return NULL;
}

static struct fz_object *
new_cell(struct fz_err *err)
{
	struct fz_object *cell = free_cell();
	unsigned char *chunk;

	if (cell != NULL)
		return cell;
	chunk = fz_commons_take(CHUNK, err);
	if (chunk == NULL)
		return NULL;
	memset(chunk, 0, CHUNK);
	atomic_store(&commons.owners[chunk_number(chunk)],
	    owner_word(CELLS, commons.self));
	commons.cells = chunk;
	commons.next_cell = 0;
	return cell_at(chunk, 0);
}

void *
fz_commons_new(uint32_t type, size_t size, struct fz_err *err)
{
	struct fz_object *object;

	if (fz_commons_self(err) == 0)
		return NULL;
	if (size <= CELL) {
		object = new_cell(err);
		size = CELL;
	} else {
		object = fz_commons_take(size, err);
	}
	if (object == NULL)
		return NULL;
	memset(object, 0, size);
	object->generation = atomic_fetch_add(&commons.head->generation, 1) + 1;
	object->maker = commons.self;
	if (size > CELL)
		fz_commons_own(object, object);
	atomic_store(&object->type, type);
	return object;
}

/* Its other chunks, a queue's for one. */
static void
free_owned(uint32_t name, uint32_t own)
{
	uint32_t top = atomic_load(&commons.head->top);

	for (uint32_t i = 0; i < top; i++) {
		uint64_t owner = atomic_load(&commons.owners[i]);

		if (whose(owner) == (OBJECT_BIT | name) && i != own)
			free_chunks(i, 1);
	}
}

static void
free_cell_at(struct fz_object *object)
{
	unsigned char *chunk = chunk_at(chunk_number(object));
	size_t i = 0;

	if (chunk == commons.cells) {
		size_t place =
		    ((size_t)((unsigned char *)object - chunk)) / CELL;

		if (place < commons.next_cell)
			commons.next_cell = place;
		return;
	}
	while (i < NCELLS && atomic_load(&cell_at(chunk, i)->type) == 0)
		i++;
	if (i == NCELLS)
		free_chunks(chunk_number(object), 1);
}

void
fz_commons_free(struct fz_object *object)
{
	uint32_t i = chunk_number(object);

	atomic_store(&object->type, 0);
	if (whose(atomic_load(&commons.owners[i])) == CELLS) {
		free_cell_at(object);
		return;
	}
	free_owned(fz_commons_name(object), i);
	free_chunks(i, 1);
}

struct fz_object **
fz_commons_dropped(void)
{
	return &commons.dropped;
}

struct fz_object *
fz_commons_find(uint32_t name, uint32_t generation, uint32_t type)
{
	uint64_t offset = (uint64_t)name * CELL;
	struct fz_object *object = fz_commons_at(offset);

	if (commons.head == NULL || offset == 0 ||
	    offset > commons.size - CELL ||
	    (unsigned char *)object < commons.chunks ||
	    chunk_number(object) >= atomic_load(&commons.head->top) ||
	    is_free(atomic_load(&commons.owners[chunk_number(object)])))
		return NULL;
	return atomic_load(&object->type) == type &&
		       object->generation == generation
		   ? object
		   : NULL;
}
