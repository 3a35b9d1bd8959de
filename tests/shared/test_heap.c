/*
 * The shared heap: what its members share, at any moment at which one of them
 * may be killed.
 *
 * wrap: memfd_create eventfd mmap madvise pthread_mutexattr_init
 * wrap: pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
 * wrap: pthread_mutex_unlock getrlimit
 */
/* kill, madvise and others are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "shared/heap.h"
#include "shared/heap_state.h"

enum { TYPE = 7 };

/* What children tell. */
static struct told {
	_Atomic uint64_t number;
	_Atomic uint64_t other;
	_Atomic int bad;
	_Atomic int rounds;
} * told;

/* ---- calls that fail, or are a process's last --------------------------- */

static struct {
	pid_t pid;      /* whose; 0: none */
	unsigned calls; /* counted since then */
	unsigned at;    /* the one that fails */
	bool die;       /* the process is killed there instead */
	unsigned reserves;
} faults;

static void
faults_at(unsigned n, bool die)
{
	faults.pid = getpid();
	faults.calls = 0;
	faults.at = n;
	faults.die = die;
}

/* Whether the call that was to fail came. */
static bool
faults_end(void)
{
	faults.pid = 0;
	return faults.calls >= faults.at;
}

static bool
fails(void)
{
	if (faults.pid == 0 || faults.pid != getpid() ||
	    ++faults.calls != faults.at)
		return false;
	if (faults.die)
		raise(SIGKILL);
	return true;
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_eventfd(unsigned n, int flags);
int __wrap_eventfd(unsigned n, int flags);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);
int __real_getrlimit(__rlimit_resource_t what, struct rlimit *limit);
int __wrap_getrlimit(__rlimit_resource_t what, struct rlimit *limit);
int __real_pthread_mutexattr_init(pthread_mutexattr_t *attr);
int __wrap_pthread_mutexattr_init(pthread_mutexattr_t *attr);
int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static int
failed(int code)
{
	errno = code;
	return -1;
}

int
__wrap_memfd_create(const char *name, unsigned flags)
{
	return fails() ? failed(EMFILE) : __real_memfd_create(name, flags);
}

int
__wrap_eventfd(unsigned n, int flags)
{
	return fails() ? failed(EMFILE) : __real_eventfd(n, flags);
}

void *
__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	/* It is tried again with less. */
	if (fails()) {
		faults.at = n > ((size_t)64 << 20) * 2 ? faults.at + 1 : 0;
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(at, n, prot, flags, fd, off);
}

int
__wrap_madvise(void *at, size_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE)
		faults.reserves++;
	return advice != MADV_DONTDUMP && fails()
		   ? failed(EFAULT)
		   : __real_madvise(at, len, advice);
}

int
__wrap_getrlimit(__rlimit_resource_t what, struct rlimit *limit)
{
	return fails() ? failed(EINVAL) : __real_getrlimit(what, limit);
}

int
__wrap_pthread_mutexattr_init(pthread_mutexattr_t *attr)
{
	return fails() ? ENOMEM : __real_pthread_mutexattr_init(attr);
}

int
__wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a)
{
	return fails() ? ENOMEM : __real_pthread_mutex_init(m, a);
}

int
__wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	return fails() ? ENOTRECOVERABLE : __real_pthread_mutex_lock(mutex);
}

int
__wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	return fails() ? EBUSY : __real_pthread_mutex_trylock(mutex);
}

int
__wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	if (faults.die)
		fails();
	return __real_pthread_mutex_unlock(mutex);
}

/* ---- helpers ------------------------------------------------------------ */

static int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void
nap(int ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

/* A child that runs f(arg) and waits to be killed. */
static pid_t
start(void (*f)(uint64_t arg), uint64_t arg)
{
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid != 0)
		return pid;
	f(arg);
	for (;;)
		pause();
}

static void
finish(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
await(_Atomic uint64_t *what)
{
	int64_t until = fz_clock_ns() + 20 * FZ_CLOCK_SECOND;

	while (atomic_load(what) == 0 && fz_clock_ns() < until)
		nap(1);
	assert_int_not_equal(atomic_load(what), 0);
}

/* A child that has told its number. */
static pid_t
start_told(void (*f)(uint64_t arg), uint64_t arg)
{
	pid_t pid;

	atomic_store(&told->number, 0);
	pid = start(f, arg);
	await(&told->number);
	return pid;
}

/* Take and give until what the dead had is free. */
static void
await_used(size_t used)
{
	int64_t until = fz_clock_ns() + 20 * FZ_CLOCK_SECOND;

	while (fz_heap_used() != used && fz_clock_ns() < until) {
		void *chunk = fz_heap_alloc(1, NULL);

		if (chunk != NULL)
			fz_heap_give_back(chunk);
		nap(20);
	}
	assert_int_equal(fz_heap_used(), used);
}

static int
setup(void **state)
{
	(void)state;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fz_heap_acquire();
	return told == MAP_FAILED ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	faults.pid = 0;
	fz_heap_release();
	munmap(told, sizeof(*told));
	return fz_heap_wake_fd() == -1 ? 0 : -1;
}

/* ---- the region --------------------------------------------------------- */

static void
test_heap_any_call_may_fail(void **state)
{
	int nfds = count_fds(), nbad = 0;

	(void)state;
	for (unsigned n = 1; n < 100; n++) {
		struct fz_err err = { 0 };
		void *object;

		faults_at(n, false);
		object = fz_heap_new(TYPE, 1000, &err);
		if (!faults_end()) {
			assert_non_null(object);
			assert_int_equal(count_fds(), nfds + 1);
			break;
		}
		/* It goes on with less, or another place. */
		if (object != NULL)
			fz_heap_free(object);
		else
			nbad++;
		assert_int_equal(object == NULL, err.kind != FZ_ERR_NONE);
		assert_int_equal(fz_heap_used(), 0);
		fz_heap_release();
		assert_int_equal(count_fds(), nfds);
		fz_heap_acquire();
	}
	assert_true(nbad >= 8);
	assert_int_equal(fz_heap_used(), FZ_HEAP_CHUNK);
}

static void
refused_child(uint64_t arg)
{
	struct fz_err err = { 0 };

	(void)arg;
	told->bad = fz_heap_open(&err) == 0 || err.kind == FZ_ERR_NONE ||
		    fz_heap_join(&err) != 0 || fz_heap_wake_fd() != -1;
	told->number = 1;
}

static void
test_heap_a_child_of_one_without_makes_none(void **state)
{
	(void)state;
	faults_at(1, false);
	assert_int_equal(fz_heap_open(NULL), -1);
	faults_end();
	finish(start_told(refused_child, 0));
	assert_int_equal(told->bad, 0);
	assert_int_equal(fz_heap_open(NULL), 0); /* now it can */
}

static void
test_heap_is_not_where_files_are_limited(void **state)
{
	struct rlimit before, limit;
	struct fz_err err = { 0 };

	(void)state;
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(fz_heap_join(&err), 0);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_non_null(strstr(err.text, "file size"));
}

/* With 64 MB at least all may be taken, and given back. */
static void
small_child(uint64_t arg)
{
	struct rlimit limit = { (rlim_t)arg, (rlim_t)arg };
	struct fz_err err = { 0 };
	void *chunks[8192];
	size_t n = 0, again = 0;

	if (setrlimit(RLIMIT_AS, &limit) != 0 || fz_heap_join(&err) == 0)
		_exit(1);
	if (fz_heap.size > arg / 4) /* the script needs some, too */
		_exit(2);
	while (n < 8192 && (chunks[n] = fz_heap_alloc(1, &err)) != NULL)
		n++;
	if (n < 900 || n == 8192 || err.kind == FZ_ERR_NONE)
		_exit(3);
	if (fz_heap_alloc(fz_heap.size, &err) != NULL)
		_exit(4);
	for (size_t i = 0; i < n; i++)
		fz_heap_give_back(chunks[i]);
	if (fz_heap_used() != 0)
		_exit(5);
	while ((chunks[again] = fz_heap_alloc(1, NULL)) != NULL)
		again++;
	_exit(n == again ? 0 : 6);
}

static void
test_heap_is_smaller_where_addresses_are_few(void **state)
{
	int status = -1;
	pid_t pid;

	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip(); /* it needs the addresses */
#endif
	pid = start(small_child, (uint64_t)400 << 20);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- members ------------------------------------------------------------ */

static void
joining_child(uint64_t arg)
{
	struct fz_err err = { 0 };

	(void)arg;
	told->number = fz_heap_join(&err);
}

static void
test_heap_a_forked_child_is_another_member(void **state)
{
	uint32_t self = fz_heap_join(NULL), child;
	pid_t pid;

	(void)state;
	assert_int_not_equal(self, 0);
	assert_int_equal(fz_heap_self(), self);
	assert_true(fz_heap_alive(self));
	assert_false(fz_heap_alive(0));
	pid = start_told(joining_child, 0);
	child = (uint32_t)told->number;
	assert_int_not_equal(child, self);
	assert_int_not_equal(fz_heap_place(child), fz_heap_place(self));
	assert_true(fz_heap_alive(child));
	assert_true(fz_heap_alive(child));
	finish(pid);
	assert_false(fz_heap_alive(child));
	assert_true(fz_heap_alive(self));
}

static void
test_heap_a_place_is_used_again_after_a_second(void **state)
{
	uint32_t first, next, place;
	pid_t pid;

	(void)state;
	fz_heap_join(NULL);
	finish(start_told(joining_child, 0));
	first = (uint32_t)told->number;
	place = fz_heap_place(first);
	finish(start_told(joining_child, 0)); /* notes the death */
	assert_int_not_equal(fz_heap_place((uint32_t)told->number), place);
	nap(1100);
	pid = start_told(joining_child, 0);
	next = (uint32_t)told->number;
	assert_int_equal(fz_heap_place(next), place);
	assert_int_not_equal(next, first);
	assert_true(fz_heap_alive(next));
	assert_false(fz_heap_alive(first));
	finish(pid);
	assert_false(fz_heap_alive(first));
	assert_false(fz_heap_alive(next));
	assert_int_equal(fz_heap_nplaces(), 3);
}

static void
dying_child(uint64_t arg)
{
	faults_at((unsigned)arg, true);
	if (fz_heap_join(NULL) != 0)
		fz_heap_new(TYPE, 8, NULL);
	told->number = arg;
}

/* Held locks, half a place, a chunk that is claimed, ... */
static void
test_heap_who_dies_joining_or_taking_holds_nobody_up(void **state)
{
	unsigned n = 0;
	uint32_t self = fz_heap_join(NULL);
	pid_t pid;
	int status;

	(void)state;
	do {
		atomic_store(&told->number, 0);
		pid = start(dying_child, ++n);
		while (waitpid(pid, &status, WNOHANG) == 0 &&
		       atomic_load(&told->number) == 0)
			nap(1);
		if (atomic_load(&told->number) != 0)
			finish(pid);
		finish(start_told(joining_child, 0));
	} while (atomic_load(&told->number) != 0 && n < 40 &&
		 WIFSIGNALED(status) && n < 30);
	assert_true(n >= 5);
	assert_true(fz_heap_alive(self));
	await_used(0);
}

static void *
joining_thread(void *arg)
{
	(void)arg;
	fz_heap_join(NULL);
	return NULL;
}

static void
join_by_a_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, joining_thread, NULL) != 0 ||
	    pthread_join(thread, NULL) != 0)
		told->bad++;
}

static void
child_of_threads(uint64_t arg)
{
	(void)arg;
	join_by_a_thread();
	if (!fz_heap_alive(fz_heap_self()))
		told->bad++;
	fz_heap_reclaim();
	told->other = fz_heap_name(fz_heap_new(TYPE, 8, NULL));
	told->number = fz_heap_self();
}

static void
test_heap_a_member_outlives_the_thread_that_joined(void **state)
{
	uint32_t child;
	pid_t pid;

	(void)state;
	fz_heap_join(NULL);
	pid = start_told(child_of_threads, 0);
	child = (uint32_t)told->number;
	assert_int_equal(told->bad, 0);
	assert_int_not_equal(child, fz_heap_self());
	for (int i = 0; i < 30; i++) { /* more than a second after its end */
		assert_true(fz_heap_alive(child));
		fz_heap_reclaim();
		nap(50);
	}
	finish(start_told(joining_child, 0));
	assert_int_not_equal(
	    fz_heap_place((uint32_t)told->number), fz_heap_place(child));
	assert_true(fz_heap_used() > 0);
	finish(pid);
	assert_false(fz_heap_alive(child));
	await_used(0);
}

/* teardown() sees that the region is gone. */
static void
test_heap_ends_after_the_thread_that_joined(void **state)
{
	(void)state;
	join_by_a_thread();
	assert_int_equal(told->bad, 0);
}

static pthread_barrier_t stages;

static void *
living_thread(void *arg)
{
	fz_heap_join(NULL);
	pthread_barrier_wait(&stages);
	pthread_barrier_wait(&stages);
	return arg;
}

static void
test_heap_stays_while_the_thread_that_joined_lives(void **state)
{
	pthread_t thread;
	uint32_t self;

	(void)state;
	assert_int_equal(pthread_barrier_init(&stages, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, living_thread, NULL), 0);
	pthread_barrier_wait(&stages);
	self = fz_heap_self();
	fz_heap_release(); /* its lock must stay mapped */
	assert_int_not_equal(fz_heap_wake_fd(), -1);
	fz_heap_acquire();
	assert_int_equal(fz_heap_join(NULL), self);
	pthread_barrier_wait(&stages);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_barrier_destroy(&stages);
}

static void
test_heap_has_room_for_4096(void **state)
{
	struct fz_err err = { 0 };
	uint32_t first = fz_heap_join(NULL);

	(void)state;
	for (int i = 1; i < FZ_HEAP_MEMBERS; i++) {
		fz_heap.self = 0; /* it is alive all the same */
		assert_int_not_equal(fz_heap_join(NULL), 0);
	}
	assert_int_equal(fz_heap_nplaces(), FZ_HEAP_MEMBERS);
	fz_heap.self = 0;
	assert_int_equal(fz_heap_join(&err), 0);
	assert_non_null(strstr(err.text, "4096"));
	for (uint32_t i = 0; i < FZ_HEAP_MEMBERS; i++) {
		member_at(i)->pid = 0;
		pthread_mutex_unlock(&member_at(i)->life);
	}
	assert_false(fz_heap_alive(first));
	/* They died just now: it waits until one of the places is free. */
	assert_int_not_equal(fz_heap_join(&err), 0);
	assert_int_equal(fz_heap_nplaces(), FZ_HEAP_MEMBERS);
}

/* ---- chunks ------------------------------------------------------------- */

static void
test_heap_chunks_have_the_room_that_was_asked_for(void **state)
{
	static const size_t sizes[] = { 0, 1, 65536, 65537, 1 << 20,
		(9 << 20) + 1 };
	const size_t n = sizeof(sizes) / sizeof(sizes[0]);
	unsigned char *chunks[6];
	size_t used = 0;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		chunks[i] = fz_heap_alloc(sizes[i], NULL);
		assert_non_null(chunks[i]);
		assert_true(fz_heap_capacity(chunks[i]) >= sizes[i]);
		assert_true(
		    fz_heap_capacity(chunks[i]) <= sizes[i] + FZ_HEAP_CHUNK);
		used += fz_heap_capacity(chunks[i]);
		memset(chunks[i], (int)i, fz_heap_capacity(chunks[i]));
		assert_ptr_equal(
		    fz_ref_at(fz_ref_offset(chunks[i])), chunks[i]);
	}
	assert_int_equal(fz_heap_used(), used);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < fz_heap_capacity(chunks[i]); k += 4096)
			assert_int_equal(chunks[i][k], i);
	fz_heap_trim(chunks[4], 100);
	assert_int_equal(fz_heap_capacity(chunks[4]), FZ_HEAP_CHUNK);
	fz_heap_trim(chunks[4], 100);
	for (size_t i = 0; i < n; i++)
		fz_heap_give_back(chunks[i]);
	assert_int_equal(fz_heap_used(), 0);
	assert_null(fz_ref_at(0));
	assert_null(fz_heap_alloc(SIZE_MAX, NULL));
	assert_null(fz_heap_alloc(fz_heap.size, NULL));
}

static void
test_heap_chunks_keep_their_memory_for_a_while(void **state)
{
	void *chunks = fz_heap_alloc(1 << 20, NULL);
	unsigned reserves = faults.reserves;
	void *much;

	(void)state;
	fz_heap_give_back(chunks);
	assert_ptr_equal(fz_heap_alloc(1 << 20, NULL), chunks);
	assert_int_equal(faults.reserves, reserves);
	fz_heap_give_back(chunks);
	much = fz_heap_alloc((size_t)300 << 20, NULL);
	assert_non_null(much);
	fz_heap_give_back(much); /* too much to keep */
	reserves = faults.reserves;
	chunks = fz_heap_alloc(1 << 20, NULL);
	assert_true(faults.reserves > reserves);
	fz_heap_give_back(chunks);
}

static void
giving_child(uint64_t chunk)
{
	fz_heap_give_back(fz_ref_at(chunk));
}

static void
test_heap_takes_the_first_free_chunk_whoever_freed_it(void **state)
{
	enum { N = 64, FIRST = 5, SECOND = 40, THIRD = 41 };
	void *chunks[N];
	pid_t pid;

	(void)state;
	for (int i = 0; i < N; i++)
		chunks[i] = fz_heap_alloc(1, NULL);
	fz_heap_give_back(chunks[SECOND]);
	pid = start(giving_child, fz_ref_offset(chunks[FIRST]));
	await_used((N - 2) * FZ_HEAP_CHUNK);
	finish(pid);
	assert_ptr_equal(fz_heap_alloc(1, NULL), chunks[FIRST]);
	assert_ptr_equal(fz_heap_alloc(1, NULL), chunks[SECOND]);
	assert_true((unsigned char *)fz_heap_alloc(1, NULL) >
		    (unsigned char *)chunks[N - 1]);
	fz_heap_give_back(chunks[FIRST]);
	fz_heap_give_back(chunks[SECOND]);
	fz_heap_give_back(chunks[THIRD]);
	assert_ptr_equal(
	    fz_heap_alloc(2 * FZ_HEAP_CHUNK, NULL), chunks[SECOND]);
	assert_ptr_equal(fz_heap_alloc(1, NULL), chunks[FIRST]);
}

/* The search does not walk over what is in use. */
static void
test_heap_takes_as_fast_with_many_chunks_in_use(void **state)
{
	struct timespec before, after;
	uint32_t many, rounds;

	(void)state;
#ifdef FZ_VALGRIND
	skip();
#endif
	assert_int_not_equal(fz_heap_join(NULL), 0);
	many = heap_head()->nchunks / 2;
	rounds = (uint32_t)(UINT64_C(20000000000) / many);
	assert_int_equal(
	    fz_heap_reserve(fz_heap.owners, (many + 2) * sizeof(uint64_t)), 0);
	for (uint32_t i = 0; i < many; i++) /* without memory of their own */
		atomic_store(&fz_heap.owners[i], owner_word(fz_heap.self, 1));
	atomic_store(&heap_head()->top, many);
	fz_heap_give_back(fz_heap_alloc(1, NULL));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	for (uint32_t i = 0; i < rounds; i++)
		fz_heap_give_back(fz_heap_alloc(1, NULL));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	/* Twenty billion steps of a walk take longer. */
	assert_true(after.tv_sec - before.tv_sec < 5);
}

/* It must not count as having memory after that. */
static void
test_heap_a_chunk_that_got_no_memory_is_without(void **state)
{
	unsigned reserves;
	void *chunk;

	(void)state;
	fz_heap_give_back(fz_heap_alloc(1, NULL)); /* the words have some */
	fz_heap_alloc(1, NULL);
	for (unsigned n = 1; n <= 2; n++) {
		struct fz_err err = { 0 };

		faults_at(n, false);
		assert_null(fz_heap_alloc(1 << 20, &err));
		faults_end();
		assert_int_equal(err.code, ENOMEM);
		assert_int_equal(fz_heap_used(), FZ_HEAP_CHUNK);
	}
	reserves = faults.reserves;
	chunk = fz_heap_alloc(1 << 20, NULL);
	assert_true(faults.reserves > reserves);
	memset(chunk, 1, 1 << 20);
}

/* ---- objects ------------------------------------------------------------ */

static void
test_heap_objects_are_found_by_name(void **state)
{
	static const size_t sizes[] = { sizeof(struct fz_object), 256, 257,
		200000 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fz_object *o = fz_heap_new(TYPE, sizes[i], NULL);
		uint32_t name, generation;

		assert_non_null(o);
		for (size_t k = sizeof(*o); k < sizes[i]; k++)
			assert_int_equal(((unsigned char *)o)[k], 0);
		memset(o + 1, 0xff, sizes[i] - sizeof(*o));
		name = fz_heap_name(o);
		generation = o->generation;
		assert_int_equal(o->maker, fz_heap_join(NULL));
		assert_ptr_equal(fz_heap_find(name, generation, TYPE), o);
		assert_null(fz_heap_find(name, generation + 1, TYPE));
		assert_null(fz_heap_find(name, generation, TYPE + 1));
		fz_heap_free(o);
		assert_null(fz_heap_find(name, generation, TYPE));
		o = fz_heap_new(TYPE, sizes[i], NULL);
		assert_int_equal(fz_heap_name(o), name); /* used again */
		assert_int_not_equal(o->generation, generation);
		assert_null(fz_heap_find(name, generation, TYPE));
		fz_heap_free(o);
	}
	for (uint32_t i = 0; i < 100000; i++)
		assert_null(fz_heap_find(i * 42949u, i, TYPE));
	assert_null(fz_heap_find(UINT32_MAX, 1, TYPE));
}

static void
test_heap_cells_are_freed_with_their_chunk(void **state)
{
	struct fz_object *objects[1000];

	(void)state;
	for (int i = 0; i < 1000; i++)
		objects[i] = fz_heap_new(TYPE, 100, NULL);
	assert_int_equal(fz_heap_used(), 4 * FZ_HEAP_CHUNK);
	for (int i = 0; i < 1000; i++)
		fz_heap_free(objects[i]);
	assert_int_equal(fz_heap_used(), FZ_HEAP_CHUNK); /* the last */
	for (int i = 0; i < 256; i++)
		objects[i] = fz_heap_new(TYPE, 100, NULL);
	assert_int_equal(fz_heap_used(), FZ_HEAP_CHUNK);
}

static void
test_heap_an_object_is_freed_with_its_chunks(void **state)
{
	struct fz_object *o = fz_heap_new(TYPE, 1000, NULL);
	void *own = fz_heap_alloc(1 << 20, NULL);
	void *back = fz_heap_alloc(1 << 20, NULL);

	(void)state;
	fz_heap_set_owner(own, o);
	fz_heap_set_owner(back, o);
	fz_heap_set_owner(back, NULL);
	fz_heap_free(o);
	assert_int_equal(fz_heap_used(), 1 << 20);
	fz_heap_give_back(back);
	assert_int_equal(fz_heap_used(), 0);
}

static void
test_heap_a_cell_is_freed_with_its_chunks(void **state)
{
	struct fz_object *o = fz_heap_new(TYPE, 256, NULL);
	struct fz_object *other = fz_heap_new(TYPE, 256, NULL);
	void *chunks = fz_heap_alloc(1 << 20, NULL);
	uint32_t name = fz_heap_name(o);

	(void)state;
	fz_heap_set_owner(fz_heap_alloc(1 << 20, NULL), o);
	fz_heap_set_owner(chunks, other);
	fz_heap_free(o);
	assert_int_equal(
	    fz_heap_used(), (1 << 20) + FZ_HEAP_CHUNK); /* the cells */
	assert_ptr_equal(
	    fz_heap_find(fz_heap_name(other), other->generation, TYPE), other);
	/* The next one there owns none. */
	o = fz_heap_new(TYPE, 256, NULL);
	assert_int_equal(fz_heap_name(o), name);
	assert_int_equal(o->owns, 0);
	fz_heap_free(o);
	fz_heap_give_back(chunks);
	fz_heap_free(other);
	assert_int_equal(fz_heap_used(), FZ_HEAP_CHUNK);
}

/* What a child makes: one of each kind, sent or not. */
static void
making_child(uint64_t sent)
{
	struct fz_object *cell = fz_heap_new(TYPE, 100, NULL);
	struct fz_object *large = fz_heap_new(TYPE, 100000, NULL);

	fz_heap_set_owner(fz_heap_alloc(1 << 20, NULL), large);
	fz_heap_set_owner(fz_heap_alloc(1 << 20, NULL), cell);
	fz_heap_alloc(1 << 20, NULL);
	memset(cell + 1, 1, 100 - sizeof(*cell));
	atomic_store(&cell->sent, (uint32_t)sent);
	atomic_store(&large->sent, (uint32_t)sent);
	told->other = (uint64_t)cell->generation << 32 | fz_heap_name(cell);
	told->number = (uint64_t)large->generation << 32 | fz_heap_name(large);
}

static struct fz_object *
find_told(uint64_t who)
{
	return fz_heap_find((uint32_t)who, (uint32_t)(who >> 32), TYPE);
}

static void
test_heap_of_the_dead_what_was_sent_stays(void **state)
{
	pid_t pid;

	(void)state;
	fz_heap_join(NULL);
	pid = start_told(making_child, 0);
	assert_non_null(find_told(told->number));
	assert_non_null(find_told(told->other));
	finish(pid);
	nap(200);
	fz_heap_reclaim();
	assert_non_null(find_told(told->number)); /* for its children */
	await_used(0);
	assert_null(find_told(told->number));
	assert_null(find_told(told->other));
	finish(start_told(making_child, 1));
	await_used((2 << 20) + 3 * FZ_HEAP_CHUNK);
	assert_non_null(find_told(told->number));
	assert_non_null(find_told(told->other));
}

/* Killed at the first store of fz_heap_free(). */
static void
freeing_child(uint64_t arg)
{
	struct fz_object *cell = fz_heap_new(TYPE, 100, NULL);
	struct fz_object *large = fz_heap_new(TYPE, 1000, NULL);

	(void)arg;
	fz_heap_set_owner(fz_heap_alloc(1 << 20, NULL), cell);
	fz_heap_set_owner(fz_heap_alloc(1 << 20, NULL), large);
	atomic_store(&cell->sent, 1);
	atomic_store(&large->sent, 1);
	atomic_store(&cell->type, 0);
	atomic_store(&large->type, 0);
	told->number = 1;
}

static void
test_heap_of_the_dead_what_was_half_freed_goes(void **state)
{
	(void)state;
	fz_heap_join(NULL);
	finish(start_told(freeing_child, 0));
	assert_true(fz_heap_used() > 2 << 20);
	await_used(0);
}

static void
grandchild(uint64_t arg)
{
	struct fz_object *o = find_told(arg);

	told->bad = o == NULL;
	if (o != NULL)
		memcpy(o + 1, "written", 8);
	told->number = 1;
}

static void
forking_child(uint64_t arg)
{
	struct fz_object *o = fz_heap_new(TYPE, 100, NULL);
	pid_t pid = fork();

	(void)arg;
	if (pid == 0) {
		grandchild((uint64_t)o->generation << 32 | fz_heap_name(o));
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	told->bad |= memcmp(o + 1, "written", 8) != 0;
	told->other = 1;
}

static void
test_heap_a_fork_of_a_fork_has_it_too(void **state)
{
	pid_t pid;

	(void)state;
	fz_heap_join(NULL);
	pid = start_told(forking_child, 0);
	await(&told->other);
	finish(pid);
	assert_int_equal(told->bad, 0);
}

/* ---- killed at any instruction ------------------------------------------ */

static bool
is_all(const unsigned char *at, size_t n, unsigned char c)
{
	return at[0] == c && memcmp(at, at + 1, n - 1) == 0;
}

/* Takes and gives at random, and sees that nobody else has what it has. */
static void
busy_child(uint64_t seed)
{
	unsigned char mark = (unsigned char)(seed % 255 + 1);
	uint64_t x = seed * 2654435761u + 1;
	/* In a cell or in a chunk. */
	struct fz_object *own = fz_heap_new(TYPE, seed % 2 ? 1000 : 200, NULL);

	for (;;) {
		size_t size, room;
		unsigned char *at;

		x = x * 6364136223846793005u + 1442695040888963407u;
		size = (size_t)(x >> 33) % (5 * FZ_HEAP_CHUNK);
		at = fz_heap_alloc(size, NULL);
		if (at == NULL || own == NULL) {
			told->bad = 1;
			return;
		}
		room = fz_heap_capacity(at);
		memset(at, mark, room);
		if (x >> 20 & 1)
			fz_heap_set_owner(at, own);
		if (x >> 21 & 1) {
			fz_heap_free(own);
			if (!(x >> 20 & 1)) {
				if (!is_all(at, room, mark))
					told->bad = 2;
				fz_heap_give_back(at);
			}
			own = fz_heap_new(TYPE, x >> 22 & 1 ? 1000 : 200, NULL);
		} else {
			if (!is_all(at, room, mark))
				told->bad = 3;
			fz_heap_give_back(at);
		}
		fz_heap_free(fz_heap_new(TYPE, 64, NULL));
		told->rounds++;
	}
}

/* fz_heap_used() does not know of what was freed when one was killed. */
static bool
all_free(void)
{
	uint32_t i = 0, top = heap_head()->top;

	while (i < top && is_free(atomic_load(&fz_heap.owners[i])))
		i++;
	return i == top;
}

static void
test_heap_killed_at_any_instruction(void **state)
{
	pid_t pids[3];
	uint64_t n = 0;
	int64_t until;

	(void)state;
	fz_heap_join(NULL);
	for (int i = 0; i < 3; i++)
		pids[i] = start(busy_child, ++n);
	srand(1);
	for (int i = 0; i < 300; i++) {
		struct timespec ts = { 0, 1000 * (rand() % 12000) };

		nanosleep(&ts, NULL);
		finish(pids[i % 3]);
		pids[i % 3] = start(busy_child, ++n);
	}
	for (int i = 0; i < 3; i++)
		finish(pids[i]);
	assert_int_equal(told->bad, 0);
	assert_true(told->rounds > 100);
	until = fz_clock_ns() + 20 * FZ_CLOCK_SECOND;
	while (!all_free() && fz_clock_ns() < until) {
		fz_heap_give_back(fz_heap_alloc(1, NULL));
		nap(50);
	}
	assert_true(all_free());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_heap_any_call_may_fail),
		TEST(test_heap_a_child_of_one_without_makes_none),
		TEST(test_heap_is_not_where_files_are_limited),
		TEST(test_heap_is_smaller_where_addresses_are_few),
		TEST(test_heap_a_forked_child_is_another_member),
		TEST(test_heap_a_place_is_used_again_after_a_second),
		TEST(test_heap_who_dies_joining_or_taking_holds_nobody_up),
		TEST(test_heap_a_member_outlives_the_thread_that_joined),
		TEST(test_heap_ends_after_the_thread_that_joined),
		TEST(test_heap_stays_while_the_thread_that_joined_lives),
		TEST(test_heap_has_room_for_4096),
		TEST(test_heap_chunks_have_the_room_that_was_asked_for),
		TEST(test_heap_chunks_keep_their_memory_for_a_while),
		TEST(test_heap_takes_the_first_free_chunk_whoever_freed_it),
		TEST(test_heap_takes_as_fast_with_many_chunks_in_use),
		TEST(test_heap_a_chunk_that_got_no_memory_is_without),
		TEST(test_heap_objects_are_found_by_name),
		TEST(test_heap_cells_are_freed_with_their_chunk),
		TEST(test_heap_an_object_is_freed_with_its_chunks),
		TEST(test_heap_a_cell_is_freed_with_its_chunks),
		TEST(test_heap_of_the_dead_what_was_sent_stays),
		TEST(test_heap_of_the_dead_what_was_half_freed_goes),
		TEST(test_heap_a_fork_of_a_fork_has_it_too),
		TEST(test_heap_killed_at_any_instruction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
