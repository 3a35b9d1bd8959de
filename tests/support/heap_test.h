/*
 * heap_test.h - the shared heap with members that are killed, and system calls
 * that fail or are the last of a process.
 *
 * A test that includes this has these lines in its first comment:
 *
 * wrap: memfd_create eventfd mmap madvise pthread_mutexattr_init
 * wrap: pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
 * wrap: pthread_mutex_unlock getrlimit
 */
#ifndef HEAP_TEST_H
#define HEAP_TEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { TYPE = 7 };

/* Reports of children. */
struct report {
	_Atomic uint64_t number;
	_Atomic uint64_t other;
	_Atomic int bad;
	_Atomic int rounds;
};

extern struct report *report;

extern struct heap_faults {
	pid_t pid;         /* the process whose calls fail; 0: none */
	unsigned calls;    /* calls since heap_faults_at() */
	unsigned at;       /* number of the call that fails */
	bool die;          /* kill the process instead of failing the call */
	unsigned reserves; /* calls that populated memory */
} heap_faults;

int heap_test_setup(void **state);

int heap_test_teardown(void **state);

/* The `n`-th call from now on fails, or kills this process if `die` is true. */
void heap_faults_at(unsigned n, bool die);

/* From now on no call fails. Returns whether call number `n` was made. */
bool heap_faults_end(void);

void heap_test_nap(int ms);

/* Start a child that calls f(arg) and then waits to be killed. */
pid_t start_member(void (*f)(uint64_t arg), uint64_t arg);

/* As start_member(), but returns when the child has reported its number. */
pid_t start_reporting_member(void (*f)(uint64_t arg), uint64_t arg);

void kill_member(pid_t pid);

/* Wait until `what` is not 0. */
void await_report(_Atomic uint64_t *what);

/* Allocate and free blocks until only `used` bytes of the heap are in use. */
void await_used(size_t used);

#endif
