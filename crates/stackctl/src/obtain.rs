//! Carrying out what [`crate::image`] decides: pulling, building recipes, building our own services.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex, OnceCell};

use crate::daemon;
use crate::docker::{self, docker};
use crate::exec;
use crate::image::{self, Known, Wanted, Way};
use crate::progress::{Progress, Step};
use crate::recipe::{self, Recipe, Recipes};
use crate::site::Site;

/// The registry's answer must come within this time, or it counts as absent.
const PROBE: Duration = Duration::from_secs(4);
/// A pull that takes longer has hung.
const PULL: Duration = Duration::from_secs(20 * 60);
/// Images that are obtained at the same time. A compiler that waits for one large package leaves a processor to
/// another image's.
const AT_ONCE: usize = 2;
/// This program, which is built before it runs: it is not built once more.
const OURSELVES: &str = "stackctl";

/// Obtains images; shared by the jobs that run side by side.
#[derive(Clone)]
pub struct Obtain {
    site: Site,
    recipes: Recipes,
    progress: Progress,
    registries: Arc<Mutex<BTreeMap<String, bool>>>,
    base: Arc<OnceCell<()>>,
    taken: Arc<Mutex<BTreeMap<String, Arc<OnceCell<Obtained>>>>>,
}

/// How an image was obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obtained {
    /// The pinned image itself.
    Pinned,
    /// A local build under this tag.
    Local(String),
    /// Not at all, for this reason.
    LeftOut(String),
}

impl Obtain {
    /// Reads the recipes of the work tree.
    pub fn new(site: &Site, progress: &Progress) -> Result<Self> {
        Ok(Self {
            site: site.clone(),
            recipes: Recipes::load(&site.root)?,
            progress: progress.clone(),
            registries: Arc::default(),
            base: Arc::default(),
            taken: Arc::default(),
        })
    }

    /// Obtains images of somebody else, in the order in which they are there.
    pub async fn third_parties(&self, images: Vec<Wanted>) -> Result<Vec<(Wanted, Obtained)>> {
        stream::iter(images)
            .map(|wanted| async move {
                let obtained = self.third_party(&wanted).await?;
                Ok((wanted, obtained))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Obtains one image of somebody else, once: who asks while another job is at it waits for that one.
    async fn third_party(&self, wanted: &Wanted) -> Result<Obtained> {
        let taken = self.taken.lock().await.entry(wanted.variable.clone()).or_default().clone();
        taken.get_or_try_init(|| self.take(wanted)).await.cloned()
    }

    async fn take(&self, wanted: &Wanted) -> Result<Obtained> {
        let step = self.progress.step(format!("image {}", recipe::name_of_variable(&wanted.variable)));
        let recipe = self.recipe_of(wanted)?;
        let mut known = self.look(wanted).await?;
        let mut how = "present";
        loop {
            match image::next(&known) {
                Way::Pinned => {
                    step.done(how);
                    return Ok(Obtained::Pinned);
                }
                Way::Local(tag) => {
                    step.done(if how == "present" { "local build, present" } else { how });
                    return Ok(Obtained::Local(tag));
                }
                Way::AskRegistry => {
                    step.detail("asking the registry");
                    known.registry = Some(self.registry_answers(image::registry(&wanted.pinned)).await);
                }
                Way::Pull => match self.pull(&wanted.pinned, &step).await {
                    Ok(()) => {
                        known.pinned_here = true;
                        how = "pulled";
                    }
                    Err(error) => known.pull_failed = Some(first_line(&error)),
                },
                Way::Build(_) => {
                    let Some(recipe) = &recipe else { bail!("no recipe for {}", wanted.variable) };
                    match self.build(recipe, &step).await {
                        Ok(()) => {
                            known.local_here = true;
                            how = "built from packages";
                        }
                        Err(error) => {
                            self.progress.line(format!("{error:#}"));
                            known.build_failed = Some(first_line(&error));
                        }
                    }
                }
                Way::LeaveOut(reason) => {
                    step.failed("left out");
                    return Ok(Obtained::LeftOut(reason));
                }
            }
        }
    }

    /// What Docker's store and the recipes say about an image.
    pub async fn look(&self, wanted: &Wanted) -> Result<Known> {
        let local = self.local_tag(wanted)?;
        let local_here = match &local {
            Some(tag) => docker::has_image(tag).await,
            None => false,
        };
        Ok(Known { pinned_here: docker::has_image(&wanted.pinned).await, local, local_here, ..Known::default() })
    }

    /// The tag that a local build would have, if there is a recipe.
    pub fn local_tag(&self, wanted: &Wanted) -> Result<Option<String>> {
        Ok(self.recipe_of(wanted)?.map(|recipe| recipe.tag))
    }

    /// The recipe is named like the variable; failing that, like the service.
    fn recipe_of(&self, wanted: &Wanted) -> Result<Option<Recipe>> {
        let mut names = vec![recipe::name_of_variable(&wanted.variable)];
        names.extend(wanted.services.iter().cloned());
        for name in names {
            if let Some(recipe) = self.recipes.get(&name)? {
                return Ok(Some(recipe));
            }
        }
        Ok(None)
    }

    /// Asks each registry once. `STACK_REGISTRY=off` answers for all of them.
    pub async fn registry_answers(&self, host: &str) -> bool {
        let mut known = self.registries.lock().await;
        if let Some(answer) = known.get(host) {
            return *answer;
        }
        let answer = match std::env::var("STACK_REGISTRY").as_deref() {
            Ok("off") => false,
            Ok("on") => true,
            _ => probe(host).await,
        };
        known.insert(host.to_owned(), answer);
        answer
    }

    async fn pull(&self, image: &str, step: &Step) -> Result<()> {
        step.detail("pulling");
        let log = self.site.logs().join(format!("pull-{}.log", image.replace(['/', ':', '@'], "-")));
        let report = step.reporter();
        let pull = exec::logged(docker(["pull", image]), &log, move |line| report(line));
        tokio::time::timeout(PULL, pull).await.context("the pull hung")?
    }

    /// Builds a recipe, its base first.
    async fn build(&self, recipe: &Recipe, step: &Step) -> Result<()> {
        step.detail("waiting for the base image");
        self.ensure_base().await?;
        step.detail("building");
        let out = self.out_dir(recipe)?;
        self.run_build_script(recipe, &out, step).await?;
        let copies = [("out".to_owned(), out.clone())];
        self.docker_build(recipe, &recipe.tag, &copies, &[], step).await?;
        // What went into the image is in the image; the caches that made it are elsewhere.
        let _ = std::fs::remove_dir_all(&out);
        Ok(())
    }

    /// The base image, made once whoever asks first.
    async fn ensure_base(&self) -> Result<()> {
        self.base.get_or_try_init(|| self.make_base()).await.copied()
    }

    async fn make_base(&self) -> Result<()> {
        let base = &self.recipes.base;
        if !docker::has_image(&base.tag).await {
            let step = self.progress.step("base image");
            match self.build_base(base, &step).await {
                Ok(()) => step.done("debootstrap"),
                Err(error) => {
                    step.failed("not built");
                    return Err(error);
                }
            }
        }
        exec::stdout(docker(["tag", &base.tag, "selfheal/base:latest"]), Duration::from_secs(30)).await?;
        Ok(())
    }

    /// The base image, made if it is not there.
    pub async fn base_image(&self) -> Result<String> {
        self.ensure_base().await?;
        Ok(self.recipes.base.tag.clone())
    }

    async fn build_base(&self, base: &Recipe, step: &Step) -> Result<()> {
        if exec::which("debootstrap").is_none() {
            step.detail("installing debootstrap");
            daemon::apt_install(&self.site, &["debootstrap"], "debootstrap").await?;
        }
        let out = self.out_dir(base)?;
        self.run_build_script(base, &out, step).await?;
        step.detail("importing");
        let mut import = docker(["import"]);
        for change in std::fs::read_to_string(base.dir.join("changes"))?.lines().filter(|line| !line.trim().is_empty())
        {
            import.args(["--change", change]);
        }
        import.arg(out.join("rootfs.tar")).arg(&base.tag);
        exec::logged(import, &self.site.logs().join("image-base-import.log"), |_| {}).await?;
        let _ = std::fs::remove_dir_all(&out);
        Ok(())
    }

    // By content, so that an interrupted build goes on in the same place and another clone's does not mix in.
    fn out_dir(&self, recipe: &Recipe) -> Result<PathBuf> {
        let out = self.site.cache.join("out").join(format!("{}-{}", recipe.name, recipe.hash));
        std::fs::create_dir_all(&out)?;
        Ok(out)
    }

    async fn run_build_script(&self, recipe: &Recipe, out: &Path, step: &Step) -> Result<()> {
        let script = recipe.dir.join("build.sh");
        if !script.is_file() {
            return Ok(());
        }
        let cache = self.site.cache.join("recipes").join(&recipe.name);
        std::fs::create_dir_all(&cache)?;
        // On top of what the script itself says: our own programs are what the core waits for.
        let mut command = exec::command("nice", ["-n", "9", "bash"]);
        command.arg(&script).current_dir(&recipe.dir).env("OUT", out).env("CACHE", &cache);
        let report = step.reporter();
        exec::logged(command, &self.site.logs().join(format!("image-{}.log", recipe.name)), move |line| report(line))
            .await
    }

    // The context is a copy: builds must not leave files in the work tree.
    async fn docker_build(
        &self,
        recipe: &Recipe,
        tag: &str,
        copies: &[(String, PathBuf)],
        args: &[String],
        step: &Step,
    ) -> Result<()> {
        let context = self.site.cache.join("context").join(tag.replace(['/', ':'], "-"));
        let _ = std::fs::remove_dir_all(&context);
        copy_tree(&recipe.dir, &context)?;
        for (name, from) in copies {
            copy_tree(from, &context.join(name))?;
        }
        let mut build = docker(["build", "--tag", tag, "--build-arg"]);
        build.arg(format!("BASE={}", self.recipes.base.tag));
        for arg in args {
            build.args(["--build-arg", arg]);
        }
        // The classic builder needs no plugin and is in every engine that Debian and Ubuntu ship.
        build.arg(&context).env("DOCKER_BUILDKIT", "0");
        let log = self.site.logs().join(format!("docker-build-{}.log", tag.replace(['/', ':'], "-")));
        let report = step.reporter();
        let built = exec::logged(build, &log, move |line| report(line)).await;
        let _ = std::fs::remove_dir_all(&context);
        built
    }

    /// Builds our own `programs`, some of `all`, on the host and puts each into a minimal image, tagged as
    /// compose expects it. Unchanged programs keep their image.
    pub async fn own_local(&self, which: &str, programs: &[(String, String)], all: &[(String, String)]) -> Result<()> {
        let step = self.progress.step(format!("{which} rust services"));
        let built = self.cargo_build(programs, all, &step).await;
        let folder = match built {
            Ok(folder) => {
                step.done("built on the host");
                folder
            }
            Err(error) => {
                step.failed("not built");
                return Err(error);
            }
        };
        let Some(recipe) = self.recipes.get("service")? else { bail!("deploy/local/service is missing") };
        let step = self.progress.step(format!("{which} service images"));
        let mut made = 0;
        for (image, program) in programs {
            step.detail(program);
            let binary = if program == OURSELVES { std::env::current_exe()? } else { folder.join(program) };
            let repository = image.split(':').next().unwrap_or(image);
            let tag = format!("{repository}:bin-{}", recipe::file_hash(&binary, &recipe.hash)?);
            if !docker::has_image(&tag).await {
                self.ensure_base().await?;
                let out = self.site.cache.join("out").join(tag.replace(['/', ':'], "-"));
                let _ = std::fs::remove_dir_all(&out);
                std::fs::create_dir_all(&out)?;
                std::fs::copy(&binary, out.join(program))?;
                let args = [format!("SERVICE={program}")];
                self.docker_build(&recipe, &tag, &[("out".to_owned(), out.clone())], &args, &step).await?;
                let _ = std::fs::remove_dir_all(&out);
                made += 1;
            }
            exec::stdout(docker(["tag", &tag, image]), Duration::from_secs(30)).await?;
        }
        step.done(&match made {
            0 => "present".to_owned(),
            made => format!("{made} of {} made", programs.len()),
        });
        Ok(())
    }

    /// The folder of the finished programs. All packages are named whichever programs are built: what they
    /// share is compiled once, with the features that all of them need together.
    async fn cargo_build(
        &self,
        programs: &[(String, String)],
        all: &[(String, String)],
        step: &Step,
    ) -> Result<PathBuf> {
        if exec::which("cargo").is_none() {
            bail!("cargo is not on the PATH; install Rust from https://rustup.rs");
        }
        let target = self.site.cargo_target();
        let (profile, folder) = if self.site.debug { ("dev", "debug") } else { ("release", "release") };
        let mut command = exec::command("cargo", ["build", "--locked", "--profile", profile]);
        command.current_dir(&self.site.root).env("CARGO_TARGET_DIR", &target).env("CARGO_TERM_COLOR", "never");
        for (option, names) in [("-p", all), ("--bin", programs)] {
            for (_, program) in names.iter().filter(|(_, program)| program != OURSELVES) {
                command.args([option, program]);
            }
        }
        let report = step.reporter();
        exec::logged(command, &self.site.logs().join("cargo.log"), move |line| report(line)).await?;
        Ok(target.join(folder))
    }
}

/// True when a TCP connection to the registry opens in time. With a proxy or a mirror the daemon has
/// ways that this process cannot see, so there the first pull decides.
async fn probe(host: &str) -> bool {
    if let Ok(text) =
        exec::stdout(docker(["info", "--format", "{{json .HTTPSProxy}}{{json .RegistryConfig.Mirrors}}"]), PROBE).await
        && !["\"\"null", "\"\"[]"].contains(&text.trim())
    {
        return true;
    }
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
    matches!(tokio::time::timeout(PROBE, tokio::net::TcpStream::connect(address)).await, Ok(Ok(_)))
}

fn first_line(error: &anyhow::Error) -> String {
    let text = match error.downcast_ref::<exec::LoggedError>() {
        Some(logged) => logged.tail.lines().last().unwrap_or_default().trim_start_matches("  | ").to_owned(),
        None => error.to_string(),
    };
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    console::truncate_str(&line, 120, "…").into_owned()
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, goal) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &goal)?;
        } else {
            std::fs::copy(&source, &goal).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
