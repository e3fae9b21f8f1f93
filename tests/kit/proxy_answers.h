/* proxy_answers: what the proxy says in a broker's place, and what it changes in a broker's words.
 * Any thread. */
#pragma once

#include "tests/kit/proxy.h"

#include "base/arena.h"
#include "base/str.h"
#include "protocol/frame.h"

/* One of the requests that proxy_answer knows? */
bool proxy_knows(int16_t api_key);

/* Appends the frame that answers a request of which `r` tells, with r->code everywhere. */
void proxy_answer(const struct request_header *h, const struct proxy_request *r, struct arena *a,
                  struct writer *w);

/* A broker's answer, as a frame with its size in front, changed: in Metadata all brokers are at
 * `port` (0: where they are); ApiVersions serves transactions of `transaction_version` (-1: as it
 * says). `key` and `version` are the request's. */
void proxy_alter(int16_t key, int16_t version, uint16_t port, int transaction_version,
                 struct buf *frame);
