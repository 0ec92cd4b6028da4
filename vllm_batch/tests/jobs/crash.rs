//! Workers are killed with SIGKILL, and nothing is lost or done twice.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::worker_process::{Setup, WorkerProcess};
use super::*;

/// How often a worker is killed.
const KILLS: usize = 50;
/// Requests of each batch.
const ROWS: usize = 60;
/// The most rows in flight in a worker: two chunks.
const IN_FLIGHT: usize = 20;

/// What one worker makes of so many lines.
async fn expected(count: usize) -> [String; 2] {
    let house = House::new().await;
    let batch = house.submit(&lines(count)).await;
    house.work().await;
    house.results(&batch).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_done_twice_when_a_worker_is_killed_again_and_again() {
    let house = House::new().await;
    let expected = expected(ROWS).await;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut kills, mut rows, mut lives) = (0, 0, 0);
    let mut batches = vec![house.submit(&lines(ROWS)).await];
    while kills < KILLS {
        lives += 1;
        // By now, all leases of the one before are over.
        house.wait(100);
        let mut setup = Setup::new(&format!("w{lives}"), house.folder.path());
        setup.now = Some(house.service.now());
        let process = setup.start();
        let mut steps = Vec::new();
        let last = random.next_u32() % 60;
        let was_killed = loop {
            match process.next_step() {
                None => break false,
                Some(step) => steps.push(step),
            }
            if steps.len() as u32 > last {
                break true;
            }
        };
        steps.extend(process.kill());
        rows += steps.iter().filter(|step| *step == "row").count();
        if was_killed {
            kills += 1;
        } else {
            batches.push(house.submit(&lines(ROWS)).await);
        }
    }
    house.wait(100);
    house.work().await;
    for batch in &batches {
        assert_eq!(standing(&house.get(batch).await), ("completed", [60, 54, 6]));
        assert_eq!(house.results(batch).await, expected, "{lives} lives");
    }
    assert_eq!(house.leftovers(), Vec::<String>::new());
    let most = ROWS * batches.len() + IN_FLIGHT * KILLS;
    assert!(rows <= most, "{rows} rows were asked for, and {most} are the most there may be");
}

/// Three workers share a batch, and one after the other is killed.
async fn share_and_die(url: &str, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let service = service_at(url_in(url, folder.path()).as_str(), folder.path(), ServiceOptions::default()).await;
    let file = upload(&service, &lines(count)).await;
    let batch = service.create_batch(NewBatch::new(file.id, COMPLETIONS)).await.unwrap();
    let mut number = 0;
    let mut start = || {
        number += 1;
        let mut setup = Setup::new(&format!("{}-{number}", batch.id), folder.path());
        setup.url = url_in(url, folder.path());
        setup.chunk_size = count.div_ceil(20);
        setup.row_millis = 20;
        setup.start()
    };
    let mut workers: Vec<_> = (0..3).map(|_| start()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let ended = loop {
        let found = service.batch("", &batch.id).await.unwrap();
        if found.status.is_terminal() {
            break found;
        }
        let victim = random.next_u32() as usize % workers.len();
        let worker = std::mem::replace(&mut workers[victim], start());
        // The others go on meanwhile, and what they say is read when it is their turn.
        run_and_kill(worker, count / 10);
    };
    for worker in workers {
        worker.kill();
    }
    assert_eq!(ended.status.as_str(), "completed");
    let results = [&ended.output_file_id, &ended.error_file_id].map(|id| id.clone().unwrap());
    let expected = expected(count).await;
    for (id, expected) in results.iter().zip(expected) {
        assert!(text_of(&service, id).await == expected, "the file is another one");
    }
}

/// Lets a worker do so many rows more, as far as there is something to do.
fn run_and_kill(worker: WorkerProcess, rows: usize) {
    let mut seen = 0;
    for _ in 0..50 * rows {
        match worker.next_step() {
            Some(step) => seen += usize::from(step == "row"),
            None => break,
        }
        if seen >= rows {
            break;
        }
    }
    worker.kill();
}

fn url_in(url: &str, folder: &Path) -> String {
    url.replace("FOLDER", &folder.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_that_die_leave_the_file_of_one_in_sqlite() {
    share_and_die("sqlite://FOLDER/jobs.db?mode=rwc", 600).await;
}

/// Runs where `VLLM_BATCH_TEST_POSTGRES` names a database.
#[tokio::test(flavor = "multi_thread")]
async fn three_workers_that_die_leave_the_file_of_one_in_postgresql() {
    let Ok(url) = std::env::var("VLLM_BATCH_TEST_POSTGRES") else { return };
    share_and_die(&url, 2000).await;
}
