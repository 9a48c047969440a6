//! POST /v3/auth/tokens: prove who you are, say where you want to act, get a token.
//!
//! Nothing is written: the token carries everything. Every failed proof gives the same answer, and takes as long as a wrong password.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use unkai_model::Id;
use unkai_model::identity::{AppCredential, Project, Scope, User};
use unkai_openstack::{Cloud, Routes};
use unkai_store::View;

use super::auth::{not_good, token_answer};
use crate::Identity;
use crate::render;
use crate::tokens::grants;
use crate::tokens::payload::{AuditId, Method, Token};
use crate::tokens::session::{self, Session};
use crate::web::body::{Extra, Field, may, must};
use crate::web::who::Service;
use crate::web::{Answer, Is, Json, Params, Refusal, check};

/// Revocations are kept this long after the token's end, because expired tokens may be asked about that long.
pub const KEEP_REVOKED: SignedDuration = SignedDuration::from_hours(48);

pub fn routes() -> Routes {
    Routes::new().public_post("/v3/auth/tokens", login)
}

/// What the methods of one request proved.
#[derive(Debug, Default)]
struct Proof {
    user: Option<Id<User>>,
    methods: BTreeSet<Method>,
    /// From the token method: the new token lives no longer and belongs to the same chain.
    expires: Option<Timestamp>,
    parent: Option<AuditId>,
    app_credential: Option<Arc<AppCredential>>,
    /// The hash that the password was checked against, and the token that was shown.
    hash: Option<String>,
    token: Option<String>,
}

async fn login(State(cloud): State<Cloud>, service: Service, params: Params, Json(body): Json) -> Answer {
    let request = Request::parse(&body)?;
    service.rotate_when_due().await?;
    // Taken before anything is looked at: whatever ends tokens while the proofs are checked ends this one too.
    let issued = Timestamp::now();
    let view = cloud.store.read().await?;
    let wanted = request.wanted(&view)?;
    let mut proof = Proof::default();
    for method in &request.methods {
        prove(&service, &view, *method, &request, &mut proof).await?;
    }
    // Checking a password takes a while; the answer is about the state after it.
    let view = cloud.store.read().await?;
    let user = still_proven(&service, &view, &proof)?;
    enough_methods(&user, &proof.methods)?;
    let scope = scope(&view, &user, wanted, &proof)?;
    let token = issue(&service, &user, scope, proof, issued)?;
    let session = session::judge(&view, token).map_err(|error| {
        tracing::info!(user = %user.meta.id, %error, "a log-in was refused");
        Refusal::unauthorized()
    })?;
    let text = service.seal(&view, &session.token)?;
    let body = render::token_bytes(&view, &session, !params.has("nocatalog"));
    Ok(token_answer(StatusCode::CREATED, &text, body))
}

/// The user, if what was proven is still what there is.
fn still_proven(service: &Identity, view: &View, proof: &Proof) -> Answer<Arc<User>> {
    let user = proof.user.as_ref().and_then(|id| view.get(id)).ok_or_else(Refusal::unauthorized)?;
    let now = user.password.as_ref().map(|password| password.hash.as_str());
    let same_password = proof.hash.is_none() || proof.hash.as_deref() == now;
    let good_token = |text: &String| service.session(view, text, Timestamp::now(), SignedDuration::ZERO).is_ok();
    let same_credential = |known: &Arc<AppCredential>| view.get(&known.meta.id).is_some_and(|now| now.secret_hash == known.secret_hash);
    let good = same_password && proof.token.as_ref().is_none_or(good_token) && proof.app_credential.as_ref().is_none_or(same_credential);
    if good { Ok(user) } else { Err(Refusal::unauthorized()) }
}

/// The parts of a well-formed request.
struct Request<'a> {
    identity: &'a Map<String, Value>,
    scope: Option<&'a Value>,
    methods: Vec<Method>,
}

#[derive(Debug, PartialEq)]
enum Wanted {
    /// Nothing said: the user's default project, if that works.
    Default,
    Unscoped,
    Exactly(Scope),
}

const AUTH: &[Field] = &[must("identity", Is::Object)];
const IDENTITY: &[Field] = &[must("methods", Is::List)];
const USER: &[Field] = &[may("id", Is::Text), may("name", Is::Text), may("password", Is::Text), may("domain", Is::Object)];
const ID_OR_NAME: &[Field] = &[may("id", Is::Text), may("name", Is::Text), may("domain", Is::Object)];

impl<'a> Request<'a> {
    fn parse(body: &'a Value) -> Answer<Self> {
        let auth = object(body, "auth").ok_or_else(|| Refusal::missing("auth", "request body"))?;
        check(auth, AUTH, Extra::Allowed)?;
        let identity = auth["identity"].as_object().ok_or_else(|| Refusal::missing("identity", "auth"))?;
        check(identity, IDENTITY, Extra::Allowed)?;
        let mut methods = Vec::new();
        for name in identity["methods"].as_array().into_iter().flatten() {
            let name = name.as_str().ok_or_else(|| Refusal::invalid("Invalid input for field 'identity.methods': not of type 'string'"))?;
            if !identity.contains_key(name) {
                return Err(Refusal::missing(name, "identity"));
            }
            let method = Method::parse(name)
                .ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "Attempted to authenticate with an unsupported method."))?;
            if !identity[name].is_object() {
                return Err(Refusal::invalid(format!("Invalid input for field 'identity.{name}': not of type 'object'")));
            }
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if methods.is_empty() {
            return Err(Refusal::unauthorized());
        }
        Ok(Request { identity, scope: auth.get("scope"), methods })
    }

    fn payload(&self, method: Method) -> &'a Map<String, Value> {
        static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        self.identity.get(method.as_str()).and_then(Value::as_object).unwrap_or(&NOTHING)
    }

    fn wanted(&self, view: &View) -> Answer<Wanted> {
        if self.methods.contains(&Method::ApplicationCredential) && self.scope.is_some() {
            let text = "Error authenticating with application credential: Application credentials cannot request a scope.";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, text));
        }
        let scope = match self.scope {
            None => return Ok(Wanted::Default),
            Some(Value::String(text)) if text == "unscoped" => return Ok(Wanted::Unscoped),
            Some(Value::Object(scope)) => scope,
            Some(_) => return Err(Refusal::missing("system, project, domain, OS-TRUST:trust or unscoped", "scope")),
        };
        let known = ["project", "domain", "unscoped", "system", "OS-TRUST:trust"];
        let said: Vec<&str> = known.into_iter().filter(|name| scope.contains_key(*name)).collect();
        match said[..] {
            ["unscoped"] => Ok(Wanted::Unscoped),
            ["system"] => match scope["system"].get("all") {
                Some(Value::Bool(true)) => Ok(Wanted::Exactly(Scope::System)),
                _ => Err(Refusal::invalid("Invalid input for field 'scope.system': only the whole system can be asked for")),
            },
            ["project"] => find_project(view, part(scope, "project")?).map(|id| Wanted::Exactly(Scope::Project(id))),
            ["domain"] => find_domain(view, part(scope, "domain")?).map(|id| Wanted::Exactly(Scope::Domain(id))),
            ["OS-TRUST:trust"] => Err(Refusal::not_found("trust", scope["OS-TRUST:trust"].get("id").and_then(Value::as_str).unwrap_or(""))),
            _ => Err(Refusal::missing("system, project, domain, OS-TRUST:trust or unscoped", "scope")),
        }
    }
}

fn object<'a>(value: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    value.get(name)?.as_object()
}

/// A reference by id or name, checked.
fn part<'a>(scope: &'a Map<String, Value>, name: &str) -> Answer<&'a Map<String, Value>> {
    let part =
        scope[name].as_object().ok_or_else(|| Refusal::invalid(format!("Invalid input for field 'scope.{name}': not of type 'object'")))?;
    id_or_name(part, &format!("scope/{name}"))?;
    Ok(part)
}

fn id_or_name(part: &Map<String, Value>, path: &str) -> Answer<()> {
    check(part, ID_OR_NAME, Extra::Allowed)?;
    if part.contains_key("id") || part.contains_key("name") {
        return Ok(());
    }
    Err(Refusal::invalid(format!("Invalid input for field {path}: id or name must be present.")))
}

fn text<'a>(part: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    part.get(name).and_then(Value::as_str)
}

fn find_domain(view: &View, part: &Map<String, Value>) -> Answer<Id<Project>> {
    let found = match text(part, "name") {
        Some(name) => view.holder::<Project>("domain-name", name),
        None => text(part, "id").map(Id::from),
    };
    found.filter(|id| view.get(id).is_some_and(|domain| domain.is_domain && domain.enabled)).ok_or_else(Refusal::unauthorized)
}

fn domain_part<'a>(part: &'a Map<String, Value>, target: &str) -> Answer<&'a Map<String, Value>> {
    let domain = part.get("domain").and_then(Value::as_object).ok_or_else(|| Refusal::missing("domain", target))?;
    id_or_name(domain, &format!("{target}/domain"))?;
    Ok(domain)
}

fn find_project(view: &View, part: &Map<String, Value>) -> Answer<Id<Project>> {
    let found = match text(part, "name") {
        Some(name) => {
            let domain = find_domain(view, domain_part(part, "project")?)?;
            view.holder::<Project>("project-name", &format!("{domain}/{name}"))
        }
        None => text(part, "id").map(Id::from),
    };
    found.filter(|id| view.get(id).is_some_and(|project| project.enabled)).ok_or_else(Refusal::unauthorized)
}

/// The user that `part` names; none when there is no such user, so that the check of the password takes its time all the same.
fn find_user(view: &View, part: &Map<String, Value>) -> Answer<Option<Arc<User>>> {
    check(part, USER, Extra::Allowed)?;
    let id = match (text(part, "name"), text(part, "id")) {
        (Some(name), _) => {
            let Ok(domain) = find_domain(view, domain_part(part, "user")?) else { return Ok(None) };
            view.holder::<User>("user-name", &format!("{domain}/{name}"))
        }
        (None, Some(id)) => Some(Id::from(id)),
        (None, None) => {
            return Err(Refusal::invalid("Invalid input for field identity/password/user: id or name must be present."));
        }
    };
    Ok(id.and_then(|id| view.get(&id)))
}

async fn prove(service: &Identity, view: &View, method: Method, request: &Request<'_>, proof: &mut Proof) -> Answer<()> {
    let payload = request.payload(method);
    let user = match method {
        Method::Password => by_password(service, view, payload, proof).await?,
        Method::Token => by_token(service, view, payload, request, proof)?,
        Method::ApplicationCredential => by_app_credential(service, view, payload, proof).await?,
    };
    proof.methods.insert(method);
    // Several methods must be about one user.
    if proof.user.as_ref().is_some_and(|before| *before != user) {
        return Err(Refusal::unauthorized());
    }
    proof.user = Some(user);
    Ok(())
}

async fn by_password(service: &Identity, view: &View, payload: &Map<String, Value>, proof: &mut Proof) -> Answer<Id<User>> {
    let part = payload.get("user").and_then(Value::as_object).ok_or_else(|| Refusal::missing("user", "password"))?;
    let user = find_user(view, part)?;
    let password = text(part, "password").ok_or_else(|| Refusal::missing("password", "user"))?;
    let hash = user.as_ref().and_then(|user| user.password.as_ref()).map(|password| password.hash.as_str());
    let right = service.passwords.verify(password, hash).await?;
    proof.hash = hash.map(str::to_owned);
    user.filter(|user| right && user.enabled).map(|user| user.meta.id.clone()).ok_or_else(Refusal::unauthorized)
}

fn by_token(service: &Identity, view: &View, payload: &Map<String, Value>, request: &Request<'_>, proof: &mut Proof) -> Answer<Id<User>> {
    let token = text(payload, "id").ok_or_else(|| Refusal::missing("id", "token"))?;
    let session = service.session(view, token, Timestamp::now(), SignedDuration::ZERO).map_err(|_| not_good())?;
    may_exchange(&session, request)?;
    proof.methods.extend(session.token.methods.iter().copied());
    proof.expires = Some(session.token.expires);
    proof.token = Some(token.to_owned());
    proof.parent = Some(session.token.parent.unwrap_or(session.token.audit));
    proof.app_credential = session.app_credential.clone();
    Ok(session.token.user.clone())
}

/// A token of the system, or of an application credential, does not become one of another place.
fn may_exchange(session: &Session, request: &Request<'_>) -> Answer<()> {
    let named = |name: &str| request.scope.is_some_and(|scope| scope.get(name).is_some());
    if matches!(session.token.scope, Some(Scope::System)) && (named("project") || named("domain")) {
        return Err(Refusal::not_allowed("Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed."));
    }
    if session.app_credential.is_some() && request.scope.is_some() {
        return Err(Refusal::not_allowed("Using an application credential token to create a scoped token is not allowed."));
    }
    Ok(())
}

async fn by_app_credential(service: &Identity, view: &View, payload: &Map<String, Value>, proof: &mut Proof) -> Answer<Id<User>> {
    let secret = text(payload, "secret").ok_or_else(|| Refusal::missing("secret", "application_credential"))?;
    let credential = find_app_credential(view, payload)?;
    let hash = credential.as_ref().map(|credential| credential.secret_hash.as_str());
    let right = service.passwords.verify(secret, hash).await?;
    let credential = credential.filter(|credential| right && credential.expires.is_none_or(|end| end > Timestamp::now()));
    let credential = credential.ok_or_else(Refusal::unauthorized)?;
    let user = credential.user.clone();
    proof.app_credential = Some(credential);
    Ok(user)
}

fn find_app_credential(view: &View, payload: &Map<String, Value>) -> Answer<Option<Arc<AppCredential>>> {
    if let Some(id) = text(payload, "id") {
        return Ok(view.get(&Id::from(id)));
    }
    let name = text(payload, "name").ok_or_else(|| Refusal::missing("name or ID", "application credential"))?;
    let part = payload.get("user").and_then(Value::as_object).ok_or_else(|| Refusal::missing("user", "application credential"))?;
    let user = find_user(view, part)?;
    let holder = user.and_then(|user| view.holder("app-credential-name", &format!("{}/{name}", user.meta.id)));
    Ok(holder.and_then(|id| view.get(&id)))
}

/// A user may ask that one proof is not enough: `multi_factor_auth_rules` lists the sets of methods that are.
fn enough_methods(user: &User, used: &BTreeSet<Method>) -> Answer<()> {
    if user.options.get("multi_factor_auth_enabled") == Some(&Value::Bool(false)) {
        return Ok(());
    }
    let Some(Value::Array(rules)) = user.options.get("multi_factor_auth_rules") else { return Ok(()) };
    let satisfied = |rule: &Value| {
        let rule = rule.as_array().map_or(&[][..], Vec::as_slice);
        rule.iter().all(|name| name.as_str().and_then(Method::parse).is_some_and(|method| used.contains(&method)))
    };
    if rules.is_empty() || rules.iter().any(satisfied) { Ok(()) } else { Err(Refusal::unauthorized()) }
}

fn scope(view: &View, user: &User, wanted: Wanted, proof: &Proof) -> Answer<Option<Scope>> {
    if let Some(credential) = &proof.app_credential {
        return Ok(Some(Scope::Project(credential.project.clone())));
    }
    match wanted {
        Wanted::Unscoped => Ok(None),
        Wanted::Exactly(scope) => Ok(Some(scope)),
        Wanted::Default => {
            let project = user.default_project.as_deref().map(Id::<Project>::from).filter(|id| {
                view.get(id).is_some_and(|project| {
                    project.enabled && !project.is_domain && view.get(project.managing_domain()).is_some_and(|domain| domain.enabled)
                })
            });
            let scope = project.map(Scope::Project);
            Ok(scope.filter(|scope| !grants::effective(view, &user.meta.id, scope).is_empty()))
        }
    }
}

fn issue(service: &Identity, user: &User, scope: Option<Scope>, proof: Proof, issued: Timestamp) -> Answer<Token> {
    let issued = Timestamp::from_microsecond(issued.as_microsecond()).unwrap_or_default();
    let mut expires = proof.expires.unwrap_or(issued + service.settings.token_life);
    if let Some(end) = proof.app_credential.as_ref().and_then(|credential| credential.expires) {
        expires = expires.min(end);
    }
    let mut audit = AuditId::default();
    aws_lc_rs::rand::fill(&mut audit).map_err(|e| unkai_model::Error::caused("asking for random bytes", e))?;
    Ok(Token {
        methods: proof.methods,
        issued,
        expires,
        audit,
        parent: proof.parent,
        user: user.meta.id.clone(),
        scope,
        app_credential: proof.app_credential.map(|credential| credential.meta.id.clone()),
    })
}
