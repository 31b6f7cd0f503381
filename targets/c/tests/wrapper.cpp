// The C++ wrapper: owners, answers that are a value or an error, and the same numbers as C.  wrapper BUNDLE PHOTO WORK
#include <srlora.hpp>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "test.h"

namespace {

// As `cv::Mat` has them.
struct Mat {
    unsigned char* data;
    int rows, cols;
    std::size_t step;
    std::size_t bytes, depth;
    std::size_t elemSize() const { return bytes; }
    std::size_t elemSize1() const { return depth; }
};

std::vector<unsigned char> drawn(unsigned seed, bool bright, std::size_t size) {
    std::vector<unsigned char> bytes(size);
    for (std::size_t at = 0; at < size; ++at) bytes[at] = static_cast<unsigned char>((bright ? 150 : 30) + at * (seed + 3) % 61);
    return bytes;
}

void errors_are_owned(const char* bundle) {
    auto none = srlora::Bundle::open("/nowhere");
    CHECK(!none && none.error().code() == SRLORA_CODE_IO);
    CHECK(none.error().sentence() == none.error().subject() + ": " + none.error().message());
    auto moved = std::move(none);
    CHECK(!moved && moved.error().subject() == "/nowhere");
    CHECK(!srlora::Bundle::open_trusted(bundle, bundle));
    CHECK(!srlora::Store::open("/nowhere"));
    CHECK(srlora::version() == SRLORA_VERSION);
}

void photos_are_classified(const srlora::Bundle& bundle, const char* photo) {
    const auto made = srlora::Classifier::make(bundle);
    CHECK(made);
    const srlora::Classifier& classifier = *made;
    CHECK(classifier.classes() == bundle.labels() && !classifier.tells_unknown());
    std::ifstream file(photo, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const auto from_file = classifier.predict_file(photo, 3);
    const auto from_bytes = classifier.predict(srlora::Frame::encoded(bytes.data(), bytes.size()), 3);
    CHECK(from_file && from_bytes && from_file->top.size() == 3 && from_bytes->top.size() == 3);
    CHECK(from_file->top[0].label == from_bytes->top[0].label);
    CHECK(from_file->top[0].probability == from_bytes->top[0].probability);
    CHECK(!from_file->unknown && !from_file->confidence && from_file->milliseconds > 0);
    CHECK(!classifier.embed(srlora::Frame::encoded(bytes.data(), bytes.size())));

    auto pixels = drawn(1, true, 50 * 192);
    const auto bgr = classifier.probabilities(srlora::Frame::bgr(pixels.data(), 50, 50, 192));
    const auto mat = classifier.probabilities(srlora::Frame::mat(Mat{pixels.data(), 50, 50, 192, 3, 1}));
    CHECK(bgr && mat && *bgr == *mat && bgr->size() == classifier.classes().size());
    CHECK(classifier.predict(srlora::Frame::mat(Mat{pixels.data(), 50, 40, 192, 1, 1})));
    CHECK(classifier.predict(srlora::Frame::mat(Mat{pixels.data(), 50, 40, 192, 4, 1})));
    const auto floats = classifier.predict(srlora::Frame::mat(Mat{pixels.data(), 10, 10, 192, 12, 4}));
    CHECK(!floats && floats.error().code() == SRLORA_CODE_USAGE);
    CHECK(classifier.predict(srlora::Frame::nv12(pixels.data(), 192, pixels.data(), 0, 49, 49)));
    CHECK(classifier.predict(srlora::Frame::rgb(pixels.data(), 50, 50)));
    CHECK(!classifier.predict(srlora::Frame::gray(nullptr, 50, 50)));
    CHECK(!classifier.predict(srlora::Frame::gray(pixels.data(), 0, 0)));

    std::vector<std::thread> threads;
    std::vector<int> right(4);
    for (int& mine : right)
        threads.emplace_back([&classifier, &pixels, &bgr, &mine] {
            for (int call = 0; call < 10; ++call) {
                const auto found = classifier.probabilities(srlora::Frame::bgr(pixels.data(), 50, 50, 192));
                mine += found && *found == *bgr;
            }
        });
    for (auto& thread : threads) thread.join();
    for (int mine : right) CHECK(mine == 10);
}

void lessons_are_told_stopped_and_gone_on_with(const srlora::Bundle& bundle, const std::string& folder) {
    srlora::Photos photos;
    for (unsigned seed = 0; seed < 8; ++seed)
        for (const bool bright : {false, true}) {
            const auto pixels = drawn(seed, bright, 16 * 64);
            CHECK(photos.add(bright ? "bright" : "dark", srlora::Frame::bgr(pixels.data(), 20, 16, 64)));
        }
    CHECK(photos.count() == 16 && !photos.add_file("", "x"));
    auto lesson = srlora::Lesson::from_photos(photos);
    CHECK(lesson);
    lesson->method(SRLORA_METHOD_SRLORA).steps(6).batch(4).seed(1).checkpoint(0).resume();
    std::uint64_t heard = 0;
    {
        const auto trainer = srlora::Trainer::make(bundle, *lesson, folder);
        CHECK(trainer && trainer->steps() == 6);
        const auto stopped = trainer->run([&](const srlora::Event& event) {
            if (event.kind == SRLORA_EVENT_KIND_STEP) heard = event.step;
            return heard < 2;
        });
        CHECK(!stopped && stopped.error().code() == SRLORA_CODE_STOPPED && heard == 2);
    }
    {
        const auto trainer = srlora::Trainer::make(bundle, *lesson, folder);
        CHECK(trainer);
        const auto first = trainer->step();
        CHECK(first && *first == SRLORA_HAPPENED_IMPRINTED);
        const auto report = trainer->run();
        CHECK(report && report->steps() == 6 && report->train_images() == 16 && std::isnan(report->val_accuracy()));
        CHECK(report->json().find("\"generation\"") != std::string::npos);
    }
    CHECK(!srlora::Trainer::make(bundle, lesson->steps(0), folder));
    auto store = srlora::Store::open(folder);
    CHECK(store && store->classes() == (std::vector<std::string>{"bright", "dark"}) && store->warning().empty());
    const auto pixels = drawn(3, true, 16 * 64);
    const auto classifier = srlora::Classifier::make(bundle, *store);
    CHECK(classifier);
    const auto prediction = classifier->predict(srlora::Frame::bgr(pixels.data(), 20, 16, 64));
    CHECK(prediction && prediction->top.size() == 2 && prediction->top[0].label == "bright");
    const auto features = classifier->embed(srlora::Frame::bgr(pixels.data(), 20, 16, 64));
    CHECK(features && features->size() == bundle.feature_count());
    const auto back = store->rollback(1);
    CHECK(back && *back == 1 && store->generations().front() == store->current());
    CHECK(store->forget("dark") && store->classes().size() == 1);
    const auto last = store->forget("bright");
    CHECK(!last && last.error().code() == SRLORA_CODE_USAGE);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) return EXIT_FAILURE;
    const auto bundle = srlora::Bundle::open(arguments[1]);
    CHECK(bundle && bundle->sha256().size() == 64 && bundle->input_width() == bundle->input_height());
    errors_are_owned(arguments[1]);
    photos_are_classified(*bundle, arguments[2]);
    lessons_are_told_stopped_and_gone_on_with(*bundle, std::string(arguments[3]) + "/cpp");
    return verdict();
}
