// srlora for C++17: what srlora.h has, with owners that free themselves and answers that are a value or an error.
//
//     auto bundle = srlora::Bundle::open("mobilenet.bundle");
//     if (!bundle) { std::cerr << bundle.error().sentence() << '\n'; return 1; }
//     auto classifier = srlora::Classifier::make(*bundle);
//     auto prediction = classifier->predict(srlora::Frame::bgr(data, width, height, stride), 3);
//
// Nothing here throws but what the standard library throws where memory ends, and nothing needs exceptions. Owners can be moved, not
// copied. Threads: as srlora.h says; a `const` member function takes its handle as `const`.
#ifndef SRLORA_HPP
#define SRLORA_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "srlora.h"

namespace srlora {

using Code = srlora_code;
using Format = srlora_format;
using Method = srlora_method;
using EventKind = srlora_event_kind;
using Happened = srlora_happened;

namespace detail {

template <auto Free>
struct Freer {
    template <typename T>
    void operator()(T* handle) const noexcept { Free(handle); }
};

template <typename T, auto Free>
using Handle = std::unique_ptr<T, Freer<Free>>;

inline std::string text(const char* given) { return given == nullptr ? std::string() : std::string(given); }

}  // namespace detail

/// What went wrong: a code to branch on, a sentence for a person.
class Error {
public:
    explicit Error(srlora_error* owned) noexcept : own(owned) {}

    Code code() const noexcept { return srlora_error_code(own.get()); }
    /// Subject, colon, message.
    std::string sentence() const { return detail::text(srlora_error_sentence(own.get())); }
    /// The file, argument or setting at fault.
    std::string subject() const { return detail::text(srlora_error_subject(own.get())); }
    /// What is wrong with it.
    std::string message() const { return detail::text(srlora_error_message(own.get())); }

private:
    detail::Handle<srlora_error, srlora_error_free> own;
};

/// A value, or the error that there is instead. Look before you take: `*result` of an error, and `error()` of a value, are undefined.
template <typename T>
class Result {
public:
    Result(T value) : state(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state(std::in_place_index<1>, std::move(error)) {}

    explicit operator bool() const noexcept { return state.index() == 0; }
    T& operator*() & noexcept { return *std::get_if<0>(&state); }
    const T& operator*() const& noexcept { return *std::get_if<0>(&state); }
    T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state)); }
    T* operator->() noexcept { return std::get_if<0>(&state); }
    const T* operator->() const noexcept { return std::get_if<0>(&state); }
    const Error& error() const noexcept { return *std::get_if<1>(&state); }

private:
    std::variant<T, Error> state;
};

/// Nothing, or an error.
template <>
class Result<void> {
public:
    Result() = default;
    Result(Error error) : failed(std::move(error)) {}

    explicit operator bool() const noexcept { return !failed; }
    const Error& error() const noexcept { return *failed; }

private:
    std::optional<Error> failed;
};

/// One photo in memory of yours, which is read during the call that takes it. A stride of 0 stands for rows without a gap.
struct Frame : srlora_frame {
    /// Rows of pixels; `size` is taken from rows and stride.
    Frame(Format how, const void* first, std::uint32_t columns, std::uint32_t rows, std::size_t step) noexcept
        : srlora_frame{} {
        const std::size_t row = static_cast<std::size_t>(columns) * channels(how);
        struct_size = sizeof(srlora_frame);
        format = static_cast<std::uint32_t>(how);
        width = columns;
        height = rows;
        data = static_cast<const std::uint8_t*>(first);
        stride = step == 0 ? row : step;
        size = rows == 0 ? 0 : stride * (static_cast<std::size_t>(rows) - 1) + row;
    }

    static Frame rgb(const void* data, std::uint32_t width, std::uint32_t height, std::size_t stride = 0) noexcept {
        return {SRLORA_FORMAT_RGB, data, width, height, stride};
    }
    static Frame bgr(const void* data, std::uint32_t width, std::uint32_t height, std::size_t stride = 0) noexcept {
        return {SRLORA_FORMAT_BGR, data, width, height, stride};
    }
    static Frame gray(const void* data, std::uint32_t width, std::uint32_t height, std::size_t stride = 0) noexcept {
        return {SRLORA_FORMAT_GRAY8, data, width, height, stride};
    }

    /// NV12 of two planes with their strides.
    static Frame nv12(const void* luma, std::size_t luma_stride, const void* chroma, std::size_t chroma_stride,
                      std::uint32_t width, std::uint32_t height) noexcept {
        Frame frame(SRLORA_FORMAT_NV12, luma, width, height, luma_stride);
        const std::size_t row = (static_cast<std::size_t>(width) + 1) / 2 * 2;
        const std::size_t rows = (static_cast<std::size_t>(height) + 1) / 2;
        frame.chroma = static_cast<const std::uint8_t*>(chroma);
        frame.chroma_stride = chroma_stride == 0 ? row : chroma_stride;
        frame.chroma_size = rows == 0 ? 0 : frame.chroma_stride * (rows - 1) + row;
        return frame;
    }

    /// The bytes of a JPEG or PNG.
    static Frame encoded(const void* data, std::size_t size) noexcept {
        Frame frame(SRLORA_FORMAT_ENCODED, data, 0, 0, 0);
        frame.size = size;
        return frame;
    }

    /// A `cv::Mat` of 8 bits a channel: CV_8UC1, CV_8UC3 (blue, green, red) or CV_8UC4. One of another depth is refused when it is used.
    template <typename Mat>
    static Frame mat(const Mat& mat) noexcept {
        const int channels = mat.elemSize1() == 1 ? static_cast<int>(mat.elemSize()) : 0;
        const Format format = channels == 1   ? SRLORA_FORMAT_GRAY8
                              : channels == 3 ? SRLORA_FORMAT_BGR
                              : channels == 4 ? SRLORA_FORMAT_BGRA
                                              : static_cast<Format>(0);
        return {format, mat.data, static_cast<std::uint32_t>(mat.cols), static_cast<std::uint32_t>(mat.rows),
                static_cast<std::size_t>(mat.step)};
    }

private:
    static std::size_t channels(Format how) noexcept {
        switch (how) {
            case SRLORA_FORMAT_RGB:
            case SRLORA_FORMAT_BGR: return 3;
            case SRLORA_FORMAT_RGBA:
            case SRLORA_FORMAT_BGRA:
            case SRLORA_FORMAT_BGRX: return 4;
            default: return 1;
        }
    }
};

namespace detail {

/// Calls a function of srlora.h whose last arguments are a handle to give and an error.
template <typename Owner, typename T, typename Call>
Result<Owner> made(Call call) {
    T* handle = nullptr;
    srlora_error* error = nullptr;
    if (call(&handle, &error) != SRLORA_CODE_OK) return Error(error);
    return Owner(handle);
}

template <typename Call>
Result<void> done(Call call) {
    srlora_error* error = nullptr;
    if (call(&error) != SRLORA_CODE_OK) return Error(error);
    return {};
}

template <typename T, typename Count, typename At>
std::vector<std::string> texts(const T* handle, Count count, At at) {
    std::vector<std::string> all;
    for (std::size_t index = 0; index < count(handle); ++index) all.push_back(text(at(handle, index)));
    return all;
}

}  // namespace detail

/// An opened bundle.
class Bundle {
public:
    static Result<Bundle> open(const std::string& file) {
        return detail::made<Bundle, srlora_bundle>(
            [&](auto** bundle, auto** error) { return srlora_bundle_open(file.c_str(), bundle, error); });
    }
    /// One that the owner of the public key in the file `key` has signed.
    static Result<Bundle> open_trusted(const std::string& file, const std::string& key, std::uint64_t min_release = 0) {
        return detail::made<Bundle, srlora_bundle>([&](auto** bundle, auto** error) {
            return srlora_bundle_open_trusted(file.c_str(), key.c_str(), min_release, bundle, error);
        });
    }

    explicit Bundle(srlora_bundle* owned) noexcept : own(owned) {}
    const srlora_bundle* get() const noexcept { return own.get(); }

    std::vector<std::string> labels() const {
        return detail::texts(get(), srlora_bundle_label_count, srlora_bundle_label);
    }
    std::size_t feature_count() const noexcept { return srlora_bundle_feature_count(get()); }
    std::size_t input_width() const noexcept { return srlora_bundle_input_width(get()); }
    std::size_t input_height() const noexcept { return srlora_bundle_input_height(get()); }
    std::string sha256() const { return detail::text(srlora_bundle_sha256(get())); }

private:
    detail::Handle<srlora_bundle, srlora_bundle_free> own;
};

/// A store as it was when it was opened, or last changed from here.
class Store {
public:
    static Result<Store> open(const std::string& folder) {
        return detail::made<Store, srlora_store>(
            [&](auto** store, auto** error) { return srlora_store_open(folder.c_str(), store, error); });
    }

    explicit Store(srlora_store* owned) noexcept : own(owned) {}
    const srlora_store* get() const noexcept { return own.get(); }

    std::uint64_t current() const noexcept { return srlora_store_current(get()); }
    /// The newest first.
    std::vector<std::uint64_t> generations() const {
        return numbers(srlora_store_generation_count, srlora_store_generation);
    }
    /// Lessons that were kept aside, the newest first.
    std::vector<std::uint64_t> aside() const { return numbers(srlora_store_aside_count, srlora_store_aside); }
    std::vector<std::string> classes() const {
        return detail::texts(get(), srlora_store_class_count, srlora_store_class);
    }
    /// Empty where all is well.
    std::string warning() const { return detail::text(srlora_store_warning(get())); }

    /// Takes back the last lesson (0), or goes to a generation. The number whose contents now count.
    Result<std::uint64_t> rollback(std::uint64_t to = 0) {
        std::uint64_t number = 0;
        srlora_error* error = nullptr;
        if (srlora_store_rollback(own.get(), to, &number, &error) != SRLORA_CODE_OK) return Error(error);
        return number;
    }
    Result<void> forget(const std::string& class_name) {
        return detail::done([&](auto** error) { return srlora_store_forget(own.get(), class_name.c_str(), error); });
    }

private:
    template <typename Count, typename At>
    std::vector<std::uint64_t> numbers(Count count, At at) const {
        std::vector<std::uint64_t> all;
        for (std::size_t index = 0; index < count(get()); ++index) all.push_back(at(get(), index));
        return all;
    }

    detail::Handle<srlora_store, srlora_store_free> own;
};

/// A class and how likely it is, from 0 to 1.
struct Guess {
    std::string label;
    float probability;
};

/// What a classifier says of a photo.
struct Prediction {
    /// The best first.
    std::vector<Guess> top;
    /// How likely the first one is, where photos left out have shown how sure the store may be.
    std::optional<float> confidence;
    /// Whether it is like none of the classes, where photos have shown what is.
    std::optional<bool> unknown;
    double milliseconds = 0.0;
};

/// A bundle with or without a store, ready to classify.
class Classifier {
public:
    /// The model's own classifier.
    static Result<Classifier> make(const Bundle& bundle) { return made(bundle, nullptr); }
    /// What the store has learned.
    static Result<Classifier> make(const Bundle& bundle, const Store& store) { return made(bundle, store.get()); }

    Classifier(srlora_classifier* owned, std::size_t count) noexcept : own(owned), features(count) {}
    const srlora_classifier* get() const noexcept { return own.get(); }

    std::vector<std::string> classes() const {
        return detail::texts(get(), srlora_classifier_class_count, srlora_classifier_class);
    }
    bool tells_unknown() const noexcept { return srlora_classifier_tells_unknown(get()); }

    Result<Prediction> predict(const Frame& frame, std::size_t top = 5) const {
        return told([&](auto** prediction, auto** error) {
            return srlora_classifier_predict(get(), &frame, top, prediction, error);
        });
    }
    Result<Prediction> predict_file(const std::string& file, std::size_t top = 5) const {
        return told([&](auto** prediction, auto** error) {
            return srlora_classifier_predict_file(get(), file.c_str(), top, prediction, error);
        });
    }
    /// In the order of `classes()`.
    Result<std::vector<float>> probabilities(const Frame& frame) const {
        return measured(frame, srlora_classifier_class_count(get()), srlora_classifier_probabilities);
    }
    Result<std::vector<float>> embed(const Frame& frame) const {
        return measured(frame, features, srlora_classifier_embed);
    }

private:
    static Result<Classifier> made(const Bundle& bundle, const srlora_store* store) {
        srlora_classifier* handle = nullptr;
        srlora_error* error = nullptr;
        if (srlora_classifier_new(bundle.get(), store, &handle, &error) != SRLORA_CODE_OK) return Error(error);
        return Classifier(handle, bundle.feature_count());
    }

    template <typename Call>
    static Result<Prediction> told(Call call) {
        srlora_prediction* handle = nullptr;
        srlora_error* error = nullptr;
        if (call(&handle, &error) != SRLORA_CODE_OK) return Error(error);
        const detail::Handle<srlora_prediction, srlora_prediction_free> owned(handle);
        Prediction prediction;
        for (std::size_t at = 0; at < srlora_prediction_count(handle); ++at)
            prediction.top.push_back(
                {detail::text(srlora_prediction_label(handle, at)), srlora_prediction_probability(handle, at)});
        const float confidence = srlora_prediction_confidence(handle);
        if (confidence == confidence) prediction.confidence = confidence;
        const srlora_unknown unknown = srlora_prediction_unknown(handle);
        if (unknown != SRLORA_UNKNOWN_UNTOLD) prediction.unknown = unknown == SRLORA_UNKNOWN_YES;
        prediction.milliseconds = srlora_prediction_milliseconds(handle);
        return prediction;
    }

    template <typename Call>
    Result<std::vector<float>> measured(const Frame& frame, std::size_t count, Call call) const {
        std::vector<float> values(count);
        srlora_error* error = nullptr;
        if (call(get(), &frame, values.size(), values.data(), &error) != SRLORA_CODE_OK) return Error(error);
        return values;
    }

    detail::Handle<srlora_classifier, srlora_classifier_free> own;
    std::size_t features;
};

/// Photos in memory to learn from, each with its class.
class Photos {
public:
    Photos() noexcept : own(srlora_photos_new()) {}
    const srlora_photos* get() const noexcept { return own.get(); }

    std::size_t count() const noexcept { return srlora_photos_count(get()); }
    /// The pixels are copied.
    Result<void> add(const std::string& class_name, const Frame& frame) {
        return detail::done(
            [&](auto** error) { return srlora_photos_add(own.get(), class_name.c_str(), &frame, error); });
    }
    Result<void> add_file(const std::string& class_name, const std::string& file) {
        return detail::done([&](auto** error) {
            return srlora_photos_add_file(own.get(), class_name.c_str(), file.c_str(), error);
        });
    }

private:
    detail::Handle<srlora_photos, srlora_photos_free> own;
};

/// What a lesson learns from, and its settings, which are the program's until they are set. What no lesson can have is refused by
/// `Trainer::make`.
class Lesson {
public:
    static Result<Lesson> from_folder(const std::string& folder) {
        return detail::made<Lesson, srlora_lesson>(
            [&](auto** lesson, auto** error) { return srlora_lesson_new_from_folder(folder.c_str(), lesson, error); });
    }
    static Result<Lesson> from_photos(const Photos& photos) {
        return detail::made<Lesson, srlora_lesson>(
            [&](auto** lesson, auto** error) { return srlora_lesson_new_from_photos(photos.get(), lesson, error); });
    }

    explicit Lesson(srlora_lesson* owned) noexcept : own(owned) {}
    const srlora_lesson* get() const noexcept { return own.get(); }

    Lesson& method(Method value) noexcept { return set(srlora_lesson_set_method, static_cast<std::uint32_t>(value)); }
    Lesson& epochs(std::uint32_t value) noexcept { return set(srlora_lesson_set_epochs, value); }
    Lesson& steps(std::uint32_t value) noexcept { return set(srlora_lesson_set_steps, value); }
    Lesson& batch(std::size_t value) noexcept { return set(srlora_lesson_set_batch, value); }
    Lesson& lr(float value) noexcept { return set(srlora_lesson_set_lr, value); }
    Lesson& head_lr(float value) noexcept { return set(srlora_lesson_set_head_lr, value); }
    Lesson& seed(std::uint64_t value) noexcept { return set(srlora_lesson_set_seed, value); }
    Lesson& threads(std::size_t value) noexcept { return set(srlora_lesson_set_threads, value); }
    Lesson& augment(bool value) noexcept { return set(srlora_lesson_set_augment, value); }
    Lesson& replay(std::uint64_t bytes) noexcept { return set(srlora_lesson_set_replay, bytes); }
    Lesson& ram_limit(std::uint64_t bytes) noexcept { return set(srlora_lesson_set_ram_limit, bytes); }
    Lesson& cache(bool value) noexcept { return set(srlora_lesson_set_cache, value); }
    Lesson& val_split(double share) noexcept { return set(srlora_lesson_set_val_split, share); }
    Lesson& val_folder(const std::string& folder) noexcept { return set(srlora_lesson_set_val_folder, folder.c_str()); }
    Lesson& val_photos(const Photos& photos) noexcept { return set(srlora_lesson_set_val_photos, photos.get()); }
    Lesson& further(bool value = true) noexcept { return set(srlora_lesson_set_further, value); }
    Lesson& resume(bool value = true) noexcept { return set(srlora_lesson_set_resume, value); }
    /// Time between two checkpoints. What is no number of seconds is passed over.
    Lesson& checkpoint(double seconds) noexcept { return set(srlora_lesson_set_checkpoint, seconds); }

private:
    template <typename Setter, typename Value>
    Lesson& set(Setter setter, Value value) noexcept {
        setter(own.get(), value);
        return *this;
    }

    detail::Handle<srlora_lesson, srlora_lesson_free> own;
};

/// What a lesson tells on the way; `text` lives until the observer returns.
using Event = srlora_event;

/// Is told of events; `false` stops the lesson. It must not throw.
using Observer = std::function<bool(const Event&)>;

/// What came of a lesson.
class Report {
public:
    explicit Report(srlora_report* owned) noexcept : own(owned) {}
    const srlora_report* get() const noexcept { return own.get(); }

    std::uint64_t steps() const noexcept { return srlora_report_steps(get()); }
    std::uint64_t generation() const noexcept { return srlora_report_generation(get()); }
    /// The number under which it was kept aside; none where it became current.
    std::optional<std::uint64_t> aside() const noexcept {
        const std::uint64_t number = srlora_report_aside(get());
        return number == 0 ? std::nullopt : std::optional<std::uint64_t>(number);
    }
    std::size_t train_images() const noexcept { return srlora_report_train_images(get()); }
    /// NaN where nothing was trained.
    float train_loss() const noexcept { return srlora_report_train_loss(get()); }
    /// NaN without photos held back.
    double val_accuracy() const noexcept { return srlora_report_val_accuracy(get()); }
    /// What `srlora train --json` prints.
    std::string json() const { return detail::text(srlora_report_json(get())); }

private:
    detail::Handle<srlora_report, srlora_report_free> own;
};

/// One lesson, held in the hand. One thread runs it; any may stop it.
class Trainer {
public:
    static Result<Trainer> make(const Bundle& bundle, const Lesson& lesson, const std::string& store) {
        return detail::made<Trainer, srlora_trainer>([&](auto** trainer, auto** error) {
            return srlora_trainer_new(bundle.get(), lesson.get(), store.c_str(), trainer, error);
        });
    }

    explicit Trainer(srlora_trainer* owned) noexcept : own(owned) {}
    const srlora_trainer* get() const noexcept { return own.get(); }

    std::uint64_t steps() const noexcept { return srlora_trainer_steps(get()); }
    double seconds() const noexcept { return srlora_trainer_seconds(get()); }
    std::uint64_t peak_bytes() const noexcept { return srlora_trainer_peak_bytes(get()); }

    Result<Report> run(const Observer& observer = {}) const {
        return detail::made<Report, srlora_report>([&](auto** report, auto** error) {
            return srlora_trainer_run(get(), observer ? hear : nullptr, userdata(observer), report, error);
        });
    }
    Result<Happened> step(const Observer& observer = {}) const {
        Happened happened = SRLORA_HAPPENED_IMPRINTED;
        srlora_error* error = nullptr;
        if (srlora_trainer_step(get(), observer ? hear : nullptr, userdata(observer), &happened, &error) !=
            SRLORA_CODE_OK)
            return Error(error);
        return happened;
    }
    void stop() const noexcept { srlora_trainer_stop(get()); }

private:
    static bool hear(const srlora_event* event, void* userdata) noexcept {
        return (*static_cast<const Observer*>(userdata))(*event);
    }
    // C takes it as it is, and only `hear` uses it, as what it was.
    static void* userdata(const Observer& observer) noexcept {
        return const_cast<void*>(static_cast<const void*>(&observer));
    }

    detail::Handle<srlora_trainer, srlora_trainer_free> own;
};

/// The version of the library that is loaded.
inline std::string version() { return detail::text(srlora_version()); }

}  // namespace srlora

#endif  // SRLORA_HPP
