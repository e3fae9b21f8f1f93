#include "client/error.h"

#include "protocol/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct code_row {
    int code;
    unsigned flags; /* enum rv_flag */
    const char *name;
    const char *about;
};

static const struct code_row own_codes[] = {
    {RV_OK,            0,                        "RV_OK",            "no error"                                                  },
    {RV_E_MEMORY,      RV_RETRIABLE,             "RV_E_MEMORY",      "out of memory"                                             },
    {RV_E_OPTION,      0,                        "RV_E_OPTION",      "bad option"                                                },
    {RV_E_ARGUMENT,    0,                        "RV_E_ARGUMENT",    "bad argument"                                              },
    {RV_E_STATE,       0,                        "RV_E_STATE",       "not possible now"                                          },
    {RV_E_TIMED_OUT,   RV_RETRIABLE | RV_UNSURE, "RV_E_TIMED_OUT",   "timed out"                                                 },
    {RV_E_FULL,        RV_RETRIABLE,             "RV_E_FULL",        "buffer.memory is in use"                                   },
    {RV_E_CONNECT,     RV_RETRIABLE,             "RV_E_CONNECT",     "cannot connect"                                            },
    {RV_E_LOST,        RV_RETRIABLE | RV_UNSURE, "RV_E_LOST",
     "the connection broke before the answer came"                                                                               },
    {RV_E_VERSION,     0,                        "RV_E_VERSION",     "the broker serves no version of this request that we speak"},
    {RV_E_PROTOCOL,    RV_UNSURE,                "RV_E_PROTOCOL",    "the broker's answer cannot be understood"                  },
    {RV_E_TOO_LARGE,   0,                        "RV_E_TOO_LARGE",   "too large"                                                 },
    {RV_E_CORRUPT,     0,                        "RV_E_CORRUPT",     "damaged records"                                           },
    {RV_E_CODEC,       0,                        "RV_E_CODEC",       "unknown compression"                                       },
    {RV_E_NO_OFFSET,   0,                        "RV_E_NO_OFFSET",   "no usable offset, and auto.offset.reset=none"              },
    {RV_E_LOST_MEMBER, RV_REJOIN,                "RV_E_LOST_MEMBER", "not a member of the group any more"                        },
    {RV_E_ABSENT,      0,                        "RV_E_ABSENT",      "there is no such thing"                                    },
    {RV_E_ABORTED,     0,                        "RV_E_ABORTED",     "not sent: its transaction is being aborted"                },
    {RV_E_IO,          0,                        "RV_E_IO",          "a file cannot be read or written"                          },
};

/* Kafka's codes that mean more to a caller than "may succeed later". */
static const struct {
    int16_t code;
    uint8_t flags; /* enum rv_flag */
} kafka_flags[] = {
    {KERR_ILLEGAL_GENERATION,               RV_REJOIN               },
    {KERR_UNKNOWN_MEMBER_ID,                RV_REJOIN               },
    {KERR_REBALANCE_IN_PROGRESS,            RV_REJOIN               },
    {KERR_FENCED_INSTANCE_ID,               RV_FATAL                },
    {KERR_REQUEST_TIMED_OUT,                RV_RETRIABLE | RV_UNSURE},
    {KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, RV_RETRIABLE | RV_UNSURE},
    {KERR_UNKNOWN_SERVER_ERROR,             RV_UNSURE               },
    {KERR_TRANSACTION_ABORTABLE,            RV_ABORT                },
    {KERR_PRODUCER_FENCED,                  RV_FATAL                },
};

static const struct code_row *own_code(int code)
{
    for (size_t i = 0; i < sizeof own_codes / sizeof own_codes[0]; i++) {
        if (own_codes[i].code == code) {
            return &own_codes[i];
        }
    }
    return NULL;
}

const char *rv_error_name(int code)
{
    const struct code_row *row = own_code(code);
    return row ? row->name : kafka_error_name((int16_t)code);
}

const char *error_about(int code)
{
    const struct code_row *row = own_code(code);
    return row ? row->about : kafka_error_text((int16_t)code);
}

unsigned error_flags(int code)
{
    const struct code_row *row = own_code(code);
    if (row) {
        return row->flags;
    }
    for (size_t i = 0; i < sizeof kafka_flags / sizeof kafka_flags[0]; i++) {
        if (kafka_flags[i].code == code) {
            return kafka_flags[i].flags;
        }
    }
    return kafka_error_is_retriable((int16_t)code) ? RV_RETRIABLE : 0;
}

int error_set(struct rv_error *ret_error, int code, const char *format, ...)
{
    if (ret_error) {
        char text[sizeof ret_error->text]; /* an argument may be the old text */
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        memcpy(ret_error->text, text, sizeof text);
        ret_error->code = code;
        ret_error->flags = error_flags(code);
    }
    return code;
}

int error_memory(struct rv_error *ret_error)
{
    return error_set(ret_error, RV_E_MEMORY, "out of memory");
}

int error_copy(struct rv_error *ret_error, const struct rv_error *from)
{
    if (ret_error) {
        *ret_error = *from;
    }
    return from->code;
}

int error_of(err e)
{
    switch (e) {
    case OK: return RV_OK;
    case ERR_MEMORY: return RV_E_MEMORY;
    case ERR_LIMIT: return RV_E_TOO_LARGE;
    case ERR_CORRUPT: return RV_E_CORRUPT;
    case ERR_UNSUPPORTED: return RV_E_CODEC;
    default: return RV_E_PROTOCOL;
    }
}

bool error_is_metadata(int code)
{
    switch (code) {
    case KERR_UNKNOWN_TOPIC_OR_PARTITION:
    case KERR_LEADER_NOT_AVAILABLE:
    case KERR_NOT_LEADER_OR_FOLLOWER:
    case KERR_REPLICA_NOT_AVAILABLE:
    case KERR_KAFKA_STORAGE_ERROR:
    case KERR_LISTENER_NOT_FOUND:
    case KERR_FENCED_LEADER_EPOCH:
    case KERR_UNKNOWN_LEADER_EPOCH:
    case KERR_UNKNOWN_TOPIC_ID:
    case KERR_INCONSISTENT_TOPIC_ID:
    case KERR_NETWORK_EXCEPTION:
    case RV_E_CONNECT:
    case RV_E_LOST: return true;
    default: return false;
    }
}

bool error_is_coordinator(int code)
{
    switch (code) {
    case KERR_NOT_COORDINATOR:
    case KERR_COORDINATOR_NOT_AVAILABLE:
    case RV_E_CONNECT:
    case RV_E_LOST:
    case RV_E_TIMED_OUT: return true;
    default: return false;
    }
}
