"""What the driver is told at the reader, in the driver's language, short enough for a two-line display."""

from __future__ import annotations

from agent.core.reasons import Reason, ReasonCode

DEFAULT_LANGUAGE = "en"

GRANTED = {"en": "Charging allowed", "de": "Laden erlaubt", "fr": "Charge autorisée", "nl": "Laden toegestaan"}
STOPPING = {"en": "Stopping", "de": "Wird beendet", "fr": "Arrêt en cours", "nl": "Wordt gestopt"}
NOT_RECORDED = {
    "en": "Not possible now: storage",
    "de": "Derzeit nicht möglich: Speicher",
    "fr": "Impossible : mémoire",
    "nl": "Nu niet mogelijk: opslag",
}

_REFUSED: dict[str, dict[ReasonCode, str]] = {
    "en": {
        ReasonCode.TOKEN_BLOCKED: "Card blocked",
        ReasonCode.TOKEN_EXPIRED: "Card expired",
        ReasonCode.TOKEN_NOT_YET_VALID: "Card not valid yet",
        ReasonCode.TOKEN_UNKNOWN: "Card unknown",
        ReasonCode.TOKEN_RANDOM_UID: "Phone or private card: use the fleet card",
        ReasonCode.NO_POLICY: "No fleet rules for this card",
        ReasonCode.POLICY_EXPIRED: "Fleet rules too old: connect the vehicle",
        ReasonCode.NETWORK: "Network not allowed",
        ReasonCode.COUNTRY: "Country not allowed",
        ReasonCode.TIME_WINDOW: "Not at this time",
        ReasonCode.SITE: "Not at this site",
        ReasonCode.NON_PREFERRED_SITE: "Another site is preferred",
        ReasonCode.HOLIDAY: "Not on holidays",
        ReasonCode.CALENDAR_STALE: "Holiday calendar too old",
        ReasonCode.CONNECTOR: "Connector not allowed",
        ReasonCode.POWER_LIMIT: "Charger too powerful",
        ReasonCode.ASSURANCE: "This card is not enough here",
        ReasonCode.CONCURRENT_SESSION: "Already charging elsewhere",
        ReasonCode.EVSE_OCCUPIED: "Charger in use",
        ReasonCode.EVSE_UNAVAILABLE: "Charger not available",
        ReasonCode.SEVERAL_CARDS: "One card, please",
        ReasonCode.CLOCK_UNTRUSTED: "Clock not set: try again later",
        ReasonCode.CACHE_STALE: "Needs a connection",
        ReasonCode.CACHE_UNREADABLE: "Card list damaged: call support",
        ReasonCode.STORAGE_FULL: "Storage full: call support",
    },
    "de": {
        ReasonCode.TOKEN_BLOCKED: "Karte gesperrt",
        ReasonCode.TOKEN_EXPIRED: "Karte abgelaufen",
        ReasonCode.TOKEN_NOT_YET_VALID: "Karte noch nicht gültig",
        ReasonCode.TOKEN_UNKNOWN: "Karte unbekannt",
        ReasonCode.TOKEN_RANDOM_UID: "Telefon oder Privatkarte: Flottenkarte benutzen",
        ReasonCode.NO_POLICY: "Keine Flottenregeln für diese Karte",
        ReasonCode.POLICY_EXPIRED: "Flottenregeln zu alt: Fahrzeug verbinden",
        ReasonCode.NETWORK: "Netz nicht erlaubt",
        ReasonCode.COUNTRY: "Land nicht erlaubt",
        ReasonCode.TIME_WINDOW: "Nicht zu dieser Zeit",
        ReasonCode.SITE: "Nicht an diesem Standort",
        ReasonCode.NON_PREFERRED_SITE: "Anderer Standort bevorzugt",
        ReasonCode.HOLIDAY: "Nicht an Feiertagen",
        ReasonCode.CALENDAR_STALE: "Feiertagskalender zu alt",
        ReasonCode.CONNECTOR: "Stecker nicht erlaubt",
        ReasonCode.POWER_LIMIT: "Ladepunkt zu stark",
        ReasonCode.ASSURANCE: "Diese Karte reicht hier nicht",
        ReasonCode.CONCURRENT_SESSION: "Lädt bereits anderswo",
        ReasonCode.EVSE_OCCUPIED: "Ladepunkt belegt",
        ReasonCode.EVSE_UNAVAILABLE: "Ladepunkt nicht verfügbar",
        ReasonCode.SEVERAL_CARDS: "Bitte nur eine Karte",
        ReasonCode.CLOCK_UNTRUSTED: "Uhr nicht gestellt: später versuchen",
        ReasonCode.CACHE_STALE: "Verbindung nötig",
        ReasonCode.CACHE_UNREADABLE: "Kartenliste beschädigt: Support rufen",
        ReasonCode.STORAGE_FULL: "Speicher voll: Support rufen",
    },
    "fr": {
        ReasonCode.TOKEN_BLOCKED: "Carte bloquée",
        ReasonCode.TOKEN_EXPIRED: "Carte expirée",
        ReasonCode.TOKEN_NOT_YET_VALID: "Carte pas encore valable",
        ReasonCode.TOKEN_UNKNOWN: "Carte inconnue",
        ReasonCode.TOKEN_RANDOM_UID: "Téléphone ou carte privée : utilisez la carte de flotte",
        ReasonCode.NO_POLICY: "Aucune règle pour cette carte",
        ReasonCode.POLICY_EXPIRED: "Règles trop anciennes : connectez le véhicule",
        ReasonCode.NETWORK: "Réseau non autorisé",
        ReasonCode.COUNTRY: "Pays non autorisé",
        ReasonCode.TIME_WINDOW: "Pas à cette heure",
        ReasonCode.SITE: "Site non autorisé",
        ReasonCode.NON_PREFERRED_SITE: "Un autre site est préféré",
        ReasonCode.HOLIDAY: "Pas les jours fériés",
        ReasonCode.CALENDAR_STALE: "Calendrier des jours fériés trop ancien",
        ReasonCode.CONNECTOR: "Connecteur non autorisé",
        ReasonCode.POWER_LIMIT: "Borne trop puissante",
        ReasonCode.ASSURANCE: "Cette carte ne suffit pas ici",
        ReasonCode.CONCURRENT_SESSION: "Charge déjà en cours ailleurs",
        ReasonCode.EVSE_OCCUPIED: "Borne occupée",
        ReasonCode.EVSE_UNAVAILABLE: "Borne indisponible",
        ReasonCode.SEVERAL_CARDS: "Une seule carte, svp",
        ReasonCode.CLOCK_UNTRUSTED: "Horloge non réglée : réessayez",
        ReasonCode.CACHE_STALE: "Connexion nécessaire",
        ReasonCode.CACHE_UNREADABLE: "Liste endommagée : appelez l'assistance",
        ReasonCode.STORAGE_FULL: "Mémoire pleine : appelez l'assistance",
    },
    "nl": {
        ReasonCode.TOKEN_BLOCKED: "Pas geblokkeerd",
        ReasonCode.TOKEN_EXPIRED: "Pas verlopen",
        ReasonCode.TOKEN_NOT_YET_VALID: "Pas nog niet geldig",
        ReasonCode.TOKEN_UNKNOWN: "Pas onbekend",
        ReasonCode.TOKEN_RANDOM_UID: "Telefoon of privépas: gebruik de vlootpas",
        ReasonCode.NO_POLICY: "Geen vlootregels voor deze pas",
        ReasonCode.POLICY_EXPIRED: "Vlootregels te oud: verbind het voertuig",
        ReasonCode.NETWORK: "Netwerk niet toegestaan",
        ReasonCode.COUNTRY: "Land niet toegestaan",
        ReasonCode.TIME_WINDOW: "Niet op dit tijdstip",
        ReasonCode.SITE: "Niet op deze locatie",
        ReasonCode.NON_PREFERRED_SITE: "Andere locatie heeft de voorkeur",
        ReasonCode.HOLIDAY: "Niet op feestdagen",
        ReasonCode.CALENDAR_STALE: "Feestdagenkalender te oud",
        ReasonCode.CONNECTOR: "Stekker niet toegestaan",
        ReasonCode.POWER_LIMIT: "Laadpunt te krachtig",
        ReasonCode.ASSURANCE: "Deze pas volstaat hier niet",
        ReasonCode.CONCURRENT_SESSION: "Laadt al elders",
        ReasonCode.EVSE_OCCUPIED: "Laadpunt bezet",
        ReasonCode.EVSE_UNAVAILABLE: "Laadpunt niet beschikbaar",
        ReasonCode.SEVERAL_CARDS: "Eén pas tegelijk",
        ReasonCode.CLOCK_UNTRUSTED: "Klok niet gezet: probeer later",
        ReasonCode.CACHE_STALE: "Verbinding nodig",
        ReasonCode.CACHE_UNREADABLE: "Paslijst beschadigd: bel support",
        ReasonCode.STORAGE_FULL: "Opslag vol: bel support",
    },
}


def say(phrase: dict[str, str], language: str) -> str:
    return phrase.get(language, phrase[DEFAULT_LANGUAGE])


def refusal_text(reasons: tuple[Reason, ...], language: str) -> str:
    """The most severe reason in words, and how many more there are; the whole list is in the decision's record."""
    words = _REFUSED.get(language, _REFUSED[DEFAULT_LANGUAGE])
    codes = list(dict.fromkeys(reason.code for reason in reasons))
    return words[codes[0]] + (f" (+{len(codes) - 1})" if len(codes) > 1 else "")
