#include "broker/api/codes.h"

#include "protocol/error.h"

static const int16_t append_codes[ERR_COUNT] = {
    [OK] = KERR_NONE,
    [ERR_ORDER] = KERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
    [ERR_FENCED] = KERR_INVALID_PRODUCER_EPOCH,
    [ERR_DUPLICATE] = KERR_DUPLICATE_SEQUENCE_NUMBER,
    [ERR_NO_SPACE] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_NO_FILES] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_IO] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_DENIED] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_CLOSED] =
        KERR_NOT_LEADER_OR_FOLLOWER, /* deleted, or going down: ask for the metadata again */
};

static const int16_t read_codes[ERR_COUNT] = {
    [OK] = KERR_NONE,
    [ERR_RANGE] = KERR_OFFSET_OUT_OF_RANGE,
    [ERR_CORRUPT] = KERR_CORRUPT_MESSAGE,
    [ERR_TRUNCATED] = KERR_CORRUPT_MESSAGE,
    [ERR_CLOSED] = KERR_NOT_LEADER_OR_FOLLOWER,
    [ERR_IO] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_DENIED] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_NO_FILES] = KERR_KAFKA_STORAGE_ERROR,
    [ERR_NOT_FOUND] = KERR_KAFKA_STORAGE_ERROR,
};

static int16_t code_of(const int16_t *codes, err e)
{
    return codes[e] == KERR_NONE && e != OK ? KERR_UNKNOWN_SERVER_ERROR : codes[e];
}

int16_t code_of_append(err e)
{
    return code_of(append_codes, e);
}

int16_t code_of_read(err e)
{
    return code_of(read_codes, e);
}
