/* The little that tests need: what is checked is counted, and what fails is printed with its place. */
#ifndef TEST_H
#define TEST_H

#include <stdio.h>
#include <stdlib.h>

static int passed, failed;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (condition) {                                                          \
            passed++;                                                             \
        } else {                                                                  \
            failed++;                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                         \
    } while (0)

static int verdict(void) {
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
