/* wire_client: one blocking connection that speaks raw frames, for cmocka tests. Everything that is
 * waited for has a deadline; what fails here fails the test. One thread.
 *
 *     struct metadata_request q;
 *     metadata_request_init(&q);
 *     const struct metadata_response *a = wire_ask(c, API_METADATA, 12, &q);
 *
 * Answers live until wire_close or wire_forget.
 */
#pragma once

#include "gen/apis.h"
#include "protocol/wire.h"
#include "tests/kit/daemon.h"

enum { WIRE_LIMIT_S = 60 };

struct wire_client {
    int fd;                 /* -1: closed */
    int32_t correlation_id; /* of the last request */
    struct str client_id;   /* borrowed; may be null */
    struct arena arena;     /* frames and answers */
};

struct wire_client *wire_connect(const struct daemon *d);
void wire_close(struct wire_client *c);   /* frees; takes NULL */
void wire_forget(struct wire_client *c);  /* all answers so far */
void wire_hang_up(struct wire_client *c); /* the socket alone; answers stay */

/* ---- bytes */

void wire_send(struct wire_client *c, const void *p, size_t size);
bool wire_try_send(struct wire_client *c, const void *p, size_t size); /* false: it is closed */

/* A whole frame without its size, in the arena. */
struct bytes wire_receive(struct wire_client *c);

/* Nothing more comes, and the connection is closed or reset by the daemon. */
void wire_expect_close(struct wire_client *c);

/* ---- requests and answers */

/* A frame with its size, of the header of `version` (v1, or v2 where it is flexible) and the
 * request, a struct of the schema. In the arena. */
struct bytes wire_frame(struct wire_client *c, int16_t key, int16_t version, const void *request);

/* Sends a request; returns its correlation id. */
int32_t wire_request(struct wire_client *c, int16_t key, int16_t version, const void *request);

/* Receives one frame, which must be the answer to `correlation_id`, whole, and decode with nothing
 * left over. */
const void *wire_answer(struct wire_client *c, int16_t key, int16_t version,
                        int32_t correlation_id);

/* Both. */
const void *wire_ask(struct wire_client *c, int16_t key, int16_t version, const void *request);

/* Decodes a frame that came: as wire_answer, but for its correlation id, which is returned. */
const void *wire_decode_answer(struct wire_client *c, int16_t key, int16_t version,
                               struct bytes frame, int32_t *ret_correlation_id);

/* `count` elements of `size` bytes, zeroed, that live as answers do; and texts. */
void *wire_room(struct wire_client *c, size_t count, size_t size);
struct str wire_text(struct wire_client *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
