/* produce_parts: a large Produce as several requests, while it arrives, with one answer.
 *
 *     session_partial   what is there goes into the queue of the session as a request of its own,
 *                       a *part*; each but the last has `more`, each but the first `joins`
 *     produce_hold      the results of a part wait for those of the rest
 *     produce_join      with the last one they make the whole answer
 *
 * Records that are not taken whatever follows (a batch beyond max.message.bytes, or for a partition
 * that there is not) are not collected: their first bytes stay, enough to say what was wrong.
 *
 * What the whole request would not have: when the connection breaks, or what comes later does not
 * decode, the parts before it are appended, and were never answered for. A client sends all of it
 * again, and an idempotent producer's batches are known again.
 */
#pragma once

#include "broker/api/request.h"

struct produce_held; /* results of parts; one session's */

/* Adds those of an answered part; makes *held when it is NULL. ERR_LIMIT: more than one request may
 * take (rivulet.request.memory.max.bytes). */
err produce_hold(struct produce_held **held, const struct request *req);

/* Makes the reply of the last part that of all of them. It borrows from `held`. */
err produce_join(struct produce_held **held, struct request *req);

void produce_held_destroy(struct produce_held *held); /* takes NULL */
