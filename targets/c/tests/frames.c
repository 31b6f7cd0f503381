/* One picture in every format, with rows that are padded, in memory that ends with its last byte; from four threads.  frames BUNDLE */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include <srlora.h>

#include "test.h"

enum { WIDTH = 33, HEIGHT = 27, CLASSES = 64, THREADS = 4, CALLS = 20 };

/* Grey, so that every format can hold it to the bit but NV12, whose narrow range rounds. */
static uint8_t grey(size_t x, size_t y) { return (uint8_t)(40 + (x * 7 + y * 5) % 170); }

/* The picture with `channels` bytes a pixel and rows of `stride`: exactly as many bytes as it takes, and noise between rows. */
static uint8_t *drawn(size_t channels, size_t stride, size_t *size) {
    *size = stride * (HEIGHT - 1) + channels * WIDTH;
    uint8_t *bytes = malloc(*size);
    for (size_t at = 0; at < *size; at++) bytes[at] = (uint8_t)(at * 31);
    for (size_t y = 0; y < HEIGHT; y++) {
        for (size_t x = 0; x < WIDTH; x++) memset(bytes + y * stride + x * channels, grey(x, y), channels < 3 ? channels : 3);
    }
    return bytes;
}

static srlora_frame frame_of(uint32_t format, uint8_t *data, size_t size, size_t stride) {
    return (srlora_frame){.struct_size = sizeof(srlora_frame), .format = format, .width = WIDTH, .height = HEIGHT,
                          .data = data, .size = size, .stride = stride};
}

static size_t probabilities(const srlora_classifier *classifier, const srlora_frame *frame, float *values) {
    srlora_error *error = NULL;
    const srlora_code code = srlora_classifier_probabilities(classifier, frame, CLASSES, values, &error);
    if (error != NULL) fprintf(stderr, "%s\n", srlora_error_sentence(error));
    CHECK(code == SRLORA_CODE_OK);
    srlora_error_free(error);
    return srlora_classifier_class_count(classifier);
}

static void formats_agree(const srlora_classifier *classifier) {
    static const struct { uint32_t format; size_t channels; } formats[] = {
        {SRLORA_FORMAT_GRAY8, 1}, {SRLORA_FORMAT_RGB, 3},  {SRLORA_FORMAT_BGR, 3},
        {SRLORA_FORMAT_RGBA, 4},  {SRLORA_FORMAT_BGRA, 4}, {SRLORA_FORMAT_BGRX, 4},
    };
    float expected[CLASSES], found[CLASSES];
    size_t classes = 0;
    for (size_t at = 0; at < sizeof formats / sizeof *formats; at++) {
        const size_t row = formats[at].channels * WIDTH;
        for (size_t padding = 0; padding <= 64; padding += 13) {
            size_t size;
            uint8_t *bytes = drawn(formats[at].channels, row + padding, &size);
            /* 0 is the stride of rows without a gap. */
            srlora_frame frame = frame_of(formats[at].format, bytes, size, padding == 0 ? 0 : row + padding);
            if (classes == 0) {
                classes = probabilities(classifier, &frame, expected);
            } else {
                probabilities(classifier, &frame, found);
                CHECK(memcmp(expected, found, classes * sizeof *found) == 0);
            }
            /* One byte less is too little. */
            frame.size = size - 1;
            CHECK(srlora_classifier_probabilities(classifier, &frame, CLASSES, found, NULL) == SRLORA_CODE_IMAGE);
            free(bytes);
        }
    }
    CHECK(classes > 1 && classes < CLASSES);
}

static void nv12_is_near(const srlora_classifier *classifier) {
    enum { STRIDE = 48, PAIRS = (WIDTH + 1) / 2 * 2, ROWS = (HEIGHT + 1) / 2 };
    const size_t luma_size = STRIDE * (HEIGHT - 1) + WIDTH, chroma_size = STRIDE * (ROWS - 1) + PAIRS;
    uint8_t *luma = malloc(luma_size), *chroma = malloc(chroma_size), *both = malloc(STRIDE * HEIGHT + chroma_size);
    memset(luma, 1, luma_size);
    memset(both, 1, STRIDE * HEIGHT);
    for (size_t y = 0; y < HEIGHT; y++) {
        for (size_t x = 0; x < WIDTH; x++) {
            const double narrow = 16 + grey(x, y) * 219.0 / 255;
            both[y * STRIDE + x] = luma[y * STRIDE + x] = (uint8_t)(narrow + 0.5);
        }
    }
    memset(chroma, 128, chroma_size);
    memset(both + STRIDE * HEIGHT, 128, chroma_size);
    size_t size;
    uint8_t *plain = drawn(1, WIDTH, &size);
    srlora_frame frame = frame_of(SRLORA_FORMAT_GRAY8, plain, size, WIDTH);
    float expected[CLASSES], found[CLASSES], again[CLASSES];
    const size_t classes = probabilities(classifier, &frame, expected);
    frame = frame_of(SRLORA_FORMAT_NV12, luma, luma_size, STRIDE);
    frame.chroma = chroma;
    frame.chroma_size = chroma_size;
    frame.chroma_stride = STRIDE;
    probabilities(classifier, &frame, found);
    float worst = 0;
    for (size_t at = 0; at < classes; at++) worst = fmaxf(worst, fabsf(found[at] - expected[at]));
    printf("NV12 moves a probability by %.4f at most\n", (double)worst);
    CHECK(worst < 0.05f);
    frame.chroma_size = chroma_size - 1;
    CHECK(srlora_classifier_probabilities(classifier, &frame, CLASSES, again, NULL) == SRLORA_CODE_IMAGE);
    /* The plane of colour right behind. */
    frame = frame_of(SRLORA_FORMAT_NV12, both, STRIDE * HEIGHT + chroma_size, STRIDE);
    probabilities(classifier, &frame, again);
    CHECK(memcmp(found, again, classes * sizeof *found) == 0);
    frame.size -= 1;
    CHECK(srlora_classifier_probabilities(classifier, &frame, CLASSES, again, NULL) == SRLORA_CODE_IMAGE);
    frame.size = 10;
    CHECK(srlora_classifier_probabilities(classifier, &frame, CLASSES, again, NULL) == SRLORA_CODE_IMAGE);
    free(luma);
    free(chroma);
    free(both);
    free(plain);
}

static void what_cannot_be_a_frame_is_refused(const srlora_classifier *classifier) {
    static const struct { uint32_t format, width, height; size_t stride; srlora_code code; const char *words; } bad[] = {
        {0, 2, 2, 0, SRLORA_CODE_USAGE, "frame->format`: is 0"},
        {99, 2, 2, 0, SRLORA_CODE_USAGE, "one of srlora_format"},
        {SRLORA_FORMAT_RGB, 0, 2, 0, SRLORA_CODE_IMAGE, "0x2 pixels: are none"},
        {SRLORA_FORMAT_RGB, 2, 0, 0, SRLORA_CODE_IMAGE, "are none"},
        {SRLORA_FORMAT_RGB, 2, 2, 5, SRLORA_CODE_IMAGE, "more than the stride of 5"},
        {SRLORA_FORMAT_BGRX, 2, 2, 7, SRLORA_CODE_IMAGE, "more than the stride of 7"},
        {SRLORA_FORMAT_RGB, UINT32_MAX, UINT32_MAX, 0, SRLORA_CODE_IMAGE, "above the limit"},
        {SRLORA_FORMAT_NV12, UINT32_MAX, UINT32_MAX, SIZE_MAX, SRLORA_CODE_IMAGE, "pixels of NV12"},
        {SRLORA_FORMAT_NV12, 2, 2, SIZE_MAX, SRLORA_CODE_IMAGE, "pixels of NV12"},
        {SRLORA_FORMAT_RGB, 2, 2, SIZE_MAX, SRLORA_CODE_IMAGE, "more than there can be"},
        {SRLORA_FORMAT_ENCODED, 0, 0, 0, SRLORA_CODE_IMAGE, "the frame"},
    };
    uint8_t bytes[12] = {0};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        srlora_frame frame = frame_of(bad[at].format, bytes, sizeof bytes, bad[at].stride);
        frame.width = bad[at].width;
        frame.height = bad[at].height;
        srlora_error *error = NULL;
        srlora_prediction *prediction = NULL;
        CHECK(srlora_classifier_predict(classifier, &frame, 1, &prediction, &error) == bad[at].code);
        const char *said = srlora_error_sentence(error);
        CHECK(said != NULL && strstr(said, bad[at].words) != NULL);
        if (said != NULL && strstr(said, bad[at].words) == NULL) fprintf(stderr, "said: %s\n", said);
        CHECK(prediction == NULL);
        srlora_error_free(error);
    }
    srlora_frame frame = frame_of(SRLORA_FORMAT_RGB, bytes, SIZE_MAX, 0);
    CHECK(srlora_classifier_predict(classifier, &frame, 1, NULL, NULL) == SRLORA_CODE_USAGE);
    frame.struct_size = 3;
    srlora_prediction *none = NULL;
    CHECK(srlora_classifier_predict(classifier, &frame, 1, &none, NULL) == SRLORA_CODE_USAGE && none == NULL);
}

struct work {
    const srlora_classifier *classifier;
    const srlora_frame *frame;
    char label[32];
    float probability;
    int right;
};

static void *classify(void *given) {
    struct work *work = given;
    for (int call = 0; call < CALLS; call++) {
        srlora_prediction *prediction = NULL;
        srlora_error *error = NULL;
        if (srlora_classifier_predict(work->classifier, work->frame, 3, &prediction, &error) == SRLORA_CODE_OK) {
            work->right += strcmp(srlora_prediction_label(prediction, 0), work->label) == 0 &&
                           srlora_prediction_probability(prediction, 0) == work->probability;
        }
        srlora_prediction_free(prediction);
        srlora_error_free(error);
        /* And an error each, as these go between threads too. */
        if (srlora_classifier_predict(work->classifier, NULL, 3, &prediction, &error) == SRLORA_CODE_USAGE) {
            work->right += srlora_error_sentence(error) != NULL;
        }
        srlora_error_free(error);
    }
    return NULL;
}

static void four_threads_share_a_classifier(const srlora_classifier *classifier) {
    size_t size;
    uint8_t *bytes = drawn(3, 3 * WIDTH + 5, &size);
    srlora_frame frame = frame_of(SRLORA_FORMAT_BGR, bytes, size, 3 * WIDTH + 5);
    srlora_prediction *expected = NULL;
    CHECK(srlora_classifier_predict(classifier, &frame, 3, &expected, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_prediction_count(expected) == 3 && srlora_prediction_label(expected, 3) == NULL);
    CHECK(srlora_prediction_probability(expected, 0) >= srlora_prediction_probability(expected, 1));
    CHECK(srlora_prediction_unknown(expected) == SRLORA_UNKNOWN_UNTOLD && isnan(srlora_prediction_confidence(expected)));
    CHECK(srlora_prediction_milliseconds(expected) > 0);
    pthread_t threads[THREADS];
    struct work works[THREADS];
    for (int at = 0; at < THREADS; at++) {
        works[at] = (struct work){.classifier = classifier, .frame = &frame,
                                  .probability = srlora_prediction_probability(expected, 0)};
        snprintf(works[at].label, sizeof works[at].label, "%s", srlora_prediction_label(expected, 0));
        CHECK(pthread_create(&threads[at], NULL, classify, &works[at]) == 0);
    }
    for (int at = 0; at < THREADS; at++) {
        pthread_join(threads[at], NULL);
        CHECK(works[at].right == 2 * CALLS);
    }
    srlora_prediction_free(expected);
    free(bytes);
}

int main(int count, char **arguments) {
    if (count != 2) return EXIT_FAILURE;
    srlora_bundle *bundle = NULL;
    srlora_classifier *classifier = NULL;
    CHECK(srlora_bundle_open(arguments[1], &bundle, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_classifier_new(bundle, NULL, &classifier, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_bundle_label_count(bundle) == srlora_classifier_class_count(classifier));
    CHECK(strcmp(srlora_bundle_label(bundle, 1), srlora_classifier_class(classifier, 1)) == 0);
    CHECK(strlen(srlora_bundle_sha256(bundle)) == 64 && srlora_bundle_input_width(bundle) > 0);
    /* It goes on without. */
    srlora_bundle_free(bundle);
    formats_agree(classifier);
    nv12_is_near(classifier);
    what_cannot_be_a_frame_is_refused(classifier);
    four_threads_share_a_classifier(classifier);
    srlora_classifier_free(classifier);
    return verdict();
}
