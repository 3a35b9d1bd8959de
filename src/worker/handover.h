/*
 * handover.h - keeps a process from yielding its processor just before a reply
 * or a call arrives.
 *
 * A process that waits usually spins, and yields its processor to others that
 * spin. Each such turn costs a context switch. For a short call both ends can
 * do better:
 *
 * - While one worker is busy, on another processor than its parent, the parent
 *   does not yield its processor for some microseconds.
 * - In a chain the next stage gets its call soon after the reply of the stage
 *   before. So each worker has a follower: the worker that became busy after
 *   the last reply of this one. When a worker replies to its last call, and no
 *   other worker is busy, its follower is notified (`expect` in link.h) before
 *   the reply is read. The follower then does not yield its processor for some
 *   microseconds, which are lost if the guess was wrong.
 */
#ifndef FZ_HANDOVER_H
#define FZ_HANDOVER_H

struct fz_worker;

/* Called when an idle worker gets a job. */
void fz_handover_sent(struct fz_worker *worker);

/* Called when a reply of the worker has arrived, before it is read. */
void fz_handover_replied(struct fz_worker *worker);

/* Called when the worker is freed. */
void fz_handover_forget(struct fz_worker *worker);

#endif
