/* What the group_*.c handlers share: a request that waits for its group, and what group errors are
 * called on the wire. */
#pragma once

#include "broker/api/request.h"
#include "broker/coord/coord.h"

/* Fills in the answer of a request (or of one part of it). An error: the arena's. */
typedef err group_finish(struct request *req, const struct group_answer *answer);

/* Submits the request's one event and answers when its answer is there: `finish` fills in the
 * reply. What it returns is what the handler returns. */
err group_submit(struct request *req, struct str group_id, struct group_event *event,
                 group_finish *finish);

int16_t group_code(enum group_error error); /* Kafka's */

/* Is the principal allowed to, and is this the broker and shard to ask? Else the code to answer. */
int16_t group_gate(const struct request *req, enum acl_operation op, struct str group_id);
