/*
 * sanitized.h - whether a test is built with a sanitizer. Under the address
 * sanitizer forks and allocations are slow, and crashes are exits; under the
 * thread sanitizer allocations are slow.
 *
 * The allocators of sanitizers have no fork handlers. If a thread forks while
 * another one is in malloc, the child inherits a lock that is never released,
 * and hangs at its next allocation. So no thread of a test may allocate while
 * another one forks.
 */
#ifndef SANITIZED_H
#define SANITIZED_H

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#endif
